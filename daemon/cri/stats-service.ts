/** The RPCs of statistics and metrics: decode, one use case, encode. */
import type {
  ContainerStatsRequest,
  ListContainerStatsRequest,
  ListMetricDescriptorsRequest,
  ListPodSandboxMetricsRequest,
  ListPodSandboxStatsRequest,
  PodSandboxStatsRequest,
  StreamContainerStatsRequest,
  StreamPodSandboxMetricsRequest,
  StreamPodSandboxStatsRequest,
} from '#proto/generated/api.ts'
import { collectMetrics, familiesOf } from '../metrics/collect.ts'
import type { Parts } from '../parts.ts'
import { containerStats, listContainerStats } from '../stats/container-stats.ts'
import { listSandboxStats, sandboxStats } from '../stats/sandbox-stats.ts'
import { answerInChunks, wholeAnswer } from './encoded-answers.ts'
import { MetricsEncoder, metricDescriptor } from './encoded-metrics.ts'
import { StatsEncoder } from './encoded-stats.ts'
import type { Unary } from './rpc.ts'
import type { Streaming } from './stream-rpc.ts'

export const statsService = (parts: Parts, unary: Unary, streaming: Streaming) => {
  const encoder = new StatsEncoder(parts.storage.containersMountpoint)
  const containers = async (filter: ListContainerStatsRequest['filter']) =>
    encoder.containers(await listContainerStats(parts, filter))
  const sandboxes = async (filter: ListPodSandboxStatsRequest['filter']) =>
    encoder.sandboxes(await listSandboxStats(parts, filter))
  const descriptors = familiesOf(parts.specHost).map(metricDescriptor)
  const metricsEncoder = new MetricsEncoder()
  const metrics = async function* () {
    for await (const each of collectMetrics(parts)) yield metricsEncoder.sandbox(each)
  }
  return {
    containerStats: unary(async ({ containerId }: ContainerStatsRequest) =>
      encoder.container(await containerStats(parts, containerId)),
    ),
    listContainerStats: unary(async ({ filter }: ListContainerStatsRequest) =>
      wholeAnswer(await containers(filter), 'StreamContainerStats'),
    ),
    streamContainerStats: streaming(async function* ({ filter }: StreamContainerStatsRequest) {
      yield* answerInChunks(await containers(filter))
    }),
    podSandboxStats: unary(async ({ podSandboxId }: PodSandboxStatsRequest) =>
      encoder.sandbox(await sandboxStats(parts, podSandboxId)),
    ),
    listPodSandboxStats: unary(async ({ filter }: ListPodSandboxStatsRequest) =>
      wholeAnswer(await sandboxes(filter), 'StreamPodSandboxStats'),
    ),
    listMetricDescriptors: unary((_: ListMetricDescriptorsRequest) => ({ descriptors })),
    listPodSandboxMetrics: unary((_: ListPodSandboxMetricsRequest) =>
      wholeAnswer(metrics(), 'StreamPodSandboxMetrics'),
    ),
    streamPodSandboxMetrics: streaming((_: StreamPodSandboxMetricsRequest) => answerInChunks(metrics())),
    streamPodSandboxStats: streaming(async function* ({ filter }: StreamPodSandboxStatsRequest) {
      yield* answerInChunks(await sandboxes(filter))
    }),
  }
}
