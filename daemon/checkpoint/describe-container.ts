/** The documents in the archive of a checkpoint that say what it is of. Pure. */
import type { Container } from '../container/container.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'
import type { ConfigDump } from './archive.ts'

const NEVER = '0001-01-01T00:00:00Z'

const timeText = (ns: bigint): string => new Date(Number(ns / 1_000_000n)).toISOString()

/** @param now nanoseconds since 1970 */
export function configDump({ record }: Container, now: bigint): ConfigDump {
  const { config } = record
  return {
    id: record.id,
    name: config.metadata?.name ?? '',
    rootfsImage: record.imageId,
    rootfsImageRef: record.imageRef,
    rootfsImageName: config.image?.userSpecifiedImage || config.image?.image || record.imageId,
    runtime: record.runtime?.handler ?? record.runtimeHandler,
    createdTime: timeText(record.createdAt),
    checkpointedTime: timeText(now),
    restoredTime: NEVER,
    restored: false,
  }
}

/**
 * The spec that the container was made with, and by annotations whose container it is, in the words that readers of archives know.
 * @param spec the text of the bundle's config.json
 */
export function specDump(spec: string, { record }: Container, sandbox: Sandbox): string {
  const own: unknown = JSON.parse(spec, exactNumbers)
  const annotations = typeof own === 'object' && own !== null && 'annotations' in own ? own.annotations : {}
  const { config } = record
  const pod = sandbox.record.config
  const names = {
    'io.container.manager': 'cricket',
    'io.kubernetes.cri.container-name': config.metadata?.name ?? '',
    'io.kubernetes.cri.sandbox-name': pod.metadata?.name ?? '',
    'io.kubernetes.cri.sandbox-namespace': pod.metadata?.namespace ?? '',
    'io.kubernetes.cri-o.Metadata': JSON.stringify(config.metadata ?? {}),
    'io.kubernetes.cri-o.Labels': JSON.stringify(config.labels),
    'io.kubernetes.cri-o.Annotations': JSON.stringify(config.annotations),
  }
  return JSON.stringify({ ...Object(own), annotations: { ...Object(annotations), ...names } })
}

/** Limits go up to 2^64 - 1, beyond what a number of ours can hold. */
const exactNumbers = (_key: string, value: unknown, context?: { source?: string }): unknown =>
  typeof value === 'number' && context?.source !== undefined ? JSON.rawJSON(context.source) : value
