/** Pods and containers as the kubelet asks for them, and the usual sequences of calls. */

import { randomUUID } from 'node:crypto'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  ContainerConfig,
  ContainerState,
  type ContainerStatus,
  type DeepPartial,
  NamespaceMode,
  PodSandboxConfig,
} from '#proto/generated/api.ts'
import type { CriClient } from './cri-client.ts'
import { isPeer } from './peer.ts'
import type { Site } from './site.ts'

/** A pod's configuration; its log directory is made, as the kubelet does. `overrides` replaces top-level fields. */
export async function podConfig(
  site: Site,
  name: string,
  overrides: DeepPartial<PodSandboxConfig> = {},
): Promise<PodSandboxConfig> {
  const uid = randomUUID()
  const logDirectory = join(site.logDir, `default_${name}_${uid}`)
  await mkdir(logDirectory, { recursive: true })
  return PodSandboxConfig.fromPartial({
    metadata: { name, uid, namespace: 'default', attempt: 0 },
    hostname: name,
    logDirectory,
    dnsConfig: { servers: ['10.96.0.10'], searches: ['default.svc.cluster.local'], options: ['ndots:5'] },
    labels: { 'io.kubernetes.pod.name': name, 'io.kubernetes.pod.namespace': 'default', 'io.kubernetes.pod.uid': uid },
    annotations: { 'kubernetes.io/config.source': 'api' },
    linux: {
      cgroupParent: site.cgroupParent,
      securityContext: {
        namespaceOptions: { network: NamespaceMode.POD, pid: NamespaceMode.CONTAINER, ipc: NamespaceMode.POD },
      },
    },
    ...overrides,
  })
}

/** A container's configuration with the limits and security context of an ordinary burstable pod. */
export function containerConfig(
  name: string,
  image: string,
  command: string[],
  overrides: DeepPartial<ContainerConfig> = {},
): ContainerConfig {
  return ContainerConfig.fromPartial({
    metadata: { name, attempt: 0 },
    image: { image, userSpecifiedImage: image },
    command,
    logPath: `${name}/0.log`,
    labels: { 'io.kubernetes.container.name': name },
    annotations: { 'io.kubernetes.container.restartCount': '0' },
    linux: {
      resources: { cpuPeriod: 100_000n, cpuShares: 102n, memoryLimitInBytes: 134_217_728n, oomScoreAdj: 999n },
      securityContext: {
        namespaceOptions: { network: NamespaceMode.POD, pid: NamespaceMode.CONTAINER, ipc: NamespaceMode.POD },
        maskedPaths: ['/proc/acpi', '/proc/kcore', '/proc/keys', '/proc/timer_list', '/sys/firmware'],
        readonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'],
      },
    },
    ...overrides,
  })
}

/** A sandbox with one started container. */
export interface RunningPod {
  sandbox: PodSandboxConfig
  sandboxId: string
  containerId: string
  logPath: string
}

/** RunPodSandbox, CreateContainer, StartContainer. */
export async function startPod(
  cri: CriClient,
  sandbox: PodSandboxConfig,
  container: ContainerConfig,
): Promise<RunningPod> {
  const { podSandboxId } = await cri.runtime.runPodSandbox({ config: sandbox })
  const containerId = await createContainer(cri, podSandboxId, sandbox, container)
  await cri.runtime.startContainer({ containerId })
  return { sandbox, sandboxId: podSandboxId, containerId, logPath: join(sandbox.logDirectory, container.logPath) }
}

/** CreateContainer, after making the container's log directory, as the kubelet does. */
export async function createContainer(
  cri: CriClient,
  podSandboxId: string,
  sandbox: PodSandboxConfig,
  container: ContainerConfig,
): Promise<string> {
  await mkdir(join(sandbox.logDirectory, container.logPath, '..'), { recursive: true })
  const { containerId } = await cri.runtime.createContainer({ podSandboxId, config: container, sandboxConfig: sandbox })
  return containerId
}

/** StopContainer, RemoveContainer for each container, then StopPodSandbox, RemovePodSandbox. */
export async function removePod(cri: CriClient, podSandboxId: string, graceSeconds = 0): Promise<void> {
  const { containers } = await cri.runtime.listContainers({})
  for (const { id } of containers.filter((container) => container.podSandboxId === podSandboxId)) {
    await cri.runtime.stopContainer({ containerId: id, timeout: BigInt(graceSeconds) })
    await cri.runtime.removeContainer({ containerId: id })
  }
  await cri.runtime.stopPodSandbox({ podSandboxId })
  await cri.runtime.removePodSandbox({ podSandboxId })
}

/** Removes every pod the runtime knows. */
export async function removeAllPods(cri: CriClient): Promise<void> {
  const { items } = await cri.runtime.listPodSandbox({})
  await Promise.all(
    items.map(async ({ id }) => {
      await cri.runtime.stopPodSandbox({ podSandboxId: id })
      await cri.runtime.removePodSandbox({ podSandboxId: id })
    }),
  )
}

export async function containerStatus(cri: CriClient, containerId: string): Promise<ContainerStatus> {
  const { status } = await cri.runtime.containerStatus({ containerId })
  if (!status) throw new Error(`ContainerStatus of '${containerId}' has no status`)
  return status
}

/** Polls as the kubelet does until the container has ended. */
export async function untilExited(cri: CriClient, containerId: string, timeoutMs = 20_000): Promise<ContainerStatus> {
  return until(`container '${containerId}' has ended`, timeoutMs, async () => {
    const status = await containerStatus(cri, containerId)
    return status.state === ContainerState.CONTAINER_EXITED ? status : undefined
  })
}

/** Asks again every 25 ms until there is an answer. */
export async function until<T>(what: string, timeoutMs: number, ask: () => Promise<T | undefined>): Promise<T> {
  const deadline = Date.now() + timeoutMs
  for (;;) {
    const answer = await ask()
    if (answer !== undefined) return answer
    if (Date.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`)
    await sleep(25)
  }
}

/** One record of a log file in CRI format. */
export interface LogRecord {
  time: string
  stream: string
  tag: string
  content: string
}

/** Go's time format drops trailing zeros, so containerd's lines have up to nine digits. */
const FRACTION = isPeer ? '\\d{1,9}' : '\\d{9}'
const LOG_LINE = new RegExp(
  `^(\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.${FRACTION}Z) (stdout|stderr) ([PF]) (.*)$`,
  's',
)

/** Parses a log file; throws when a line is not in CRI format: UTC, nine digits, stream, `P` or `F`, content. */
export async function readLog(path: string): Promise<LogRecord[]> {
  const text = await readFile(path, 'utf8')
  if (text !== '' && !text.endsWith('\n')) throw new Error(`log '${path}' does not end with a newline`)
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => {
      const match = LOG_LINE.exec(line)
      if (!match) throw new Error(`log '${path}' has a line that is not in CRI format: '${line}'`)
      const [, time = '', stream = '', tag = '', content = ''] = match
      return { time, stream, tag, content }
    })
}
