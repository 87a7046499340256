/**
 * What the configuration of the node and the annotations that it allows make of one container, beyond what the CRI has words
 * for. docs/node-features.md has each with an example.
 */
import type { ContainerConfig, PodSandboxConfig } from '#proto/generated/api.ts'
import type { FeatureValues } from '../annotations/features.ts'
import { exclusiveCpus } from './exclusive-cpus.ts'
import { execCpu } from './exec-cpu.ts'
import { gomaxprocs } from './gomaxprocs.ts'
import type { SpecFeatures, SpecHost } from './host.ts'
import { commandLine, type ImageDefaults } from './process.ts'
import { impossible, invalid, quoted } from './refuse.ts'
import { CONTAINER_VARIABLE, runsSystemd, SYSTEMD_STOP_SIGNAL, systemdMounts } from './systemd-mode.ts'
import type { OciBlockIo, OciMount, OciProcess, OciRdt } from './types.ts'
import { umask } from './umask.ts'

/** From the configuration, for the handler and the classes of this container. */
export interface NodeOptions {
  /** The least GOMAXPROCS that is set; 0: none is. */
  readonly minGomaxprocs?: number
  /** Whether systemd in containers is given what it needs. */
  readonly detectSystemd?: boolean
  readonly execCpuAffinity?: 'first' | 'last' | undefined
  /** The processors of the container on which interrupts stay, when it asked for some. */
  readonly housekeepingCpus?: string | undefined
  readonly rdt?: OciRdt | undefined
  readonly blockIo?: OciBlockIo | undefined
  /** Where the runtime hands over the listener of a filter whose refusals are told. */
  readonly seccompListener?: string | undefined
}

export interface NodeInput {
  readonly container: ContainerConfig
  readonly sandbox: PodSandboxConfig
  readonly image: ImageDefaults
  readonly host: Pick<SpecHost, 'cgroupVersion' | 'cpus' | 'resctrl'>
  readonly features: Pick<SpecFeatures, 'execCpuAffinity'>
  readonly asked: FeatureValues
  readonly node: NodeOptions
}

export interface NodeShare {
  readonly umask: number | undefined
  readonly writableCgroup: boolean
  readonly mounts: readonly OciMount[]
  /** Where nothing else sets them. */
  readonly env: readonly (readonly [string, string])[]
  /** What the program is known to expect. */
  readonly stopSignal: string | undefined
  readonly execCPUAffinity: OciProcess['execCPUAffinity']
  /** The CPU time of the container is not limited, whatever the request says. */
  readonly withoutQuota: boolean
  readonly rdt: OciRdt | undefined
  readonly blockIo: OciBlockIo | undefined
  readonly warnings: readonly string[]
}

/** @throws RuntimeError invalid-argument for malformed annotations, failed-precondition for what this host cannot do */
export const nodeShare = (input: NodeInput): NodeShare => {
  const { asked, container, host, node } = input
  if (node.rdt && !host.resctrl) {
    throw impossible(`RDT class ${quoted(node.rdt.closID)} needs resctrl, which is not mounted`)
  }
  const systemd = systemdShare(input)
  const quota = quotaShare(input)
  const resources = container.linux?.resources
  const procs = gomaxprocs({
    floor: node.minGomaxprocs ?? 0,
    resources,
    cpus: host.cpus,
    skip: asked.skipGomaxprocs,
  })
  const cpu = input.features.execCpuAffinity ? execCpu(node.execCpuAffinity, resources?.cpusetCpus ?? '') : undefined
  return {
    umask: umask(asked.umask),
    writableCgroup: systemd.writableCgroup || writableCgroup(input),
    mounts: systemd.mounts,
    env: [
      ...systemd.env,
      ...(procs === undefined ? [] : ([['GOMAXPROCS', procs]] as const)),
      ...(node.housekeepingCpus === undefined
        ? []
        : ([['OPENSHIFT_HOUSEKEEPING_CPUS', node.housekeepingCpus]] as const)),
    ],
    stopSignal: systemd.stopSignal,
    execCPUAffinity: cpu === undefined ? undefined : { initial: String(cpu) },
    withoutQuota: quota.isLifted,
    rdt: node.rdt,
    blockIo: node.blockIo,
    warnings: [...systemd.warnings, ...quota.warnings],
  }
}

/** In version 1 the whole hierarchy of the node would be writable, and with it release_agent. */
const writableCgroup = ({ asked, host }: NodeInput): boolean => {
  const isWanted = isTrue('writable cgroup', asked.writableCgroup)
  if (isWanted && host.cgroupVersion === 1) throw impossible('A writable cgroup needs cgroup version 2')
  return isWanted
}

type SystemdShare = Pick<NodeShare, 'env' | 'mounts' | 'stopSignal' | 'warnings' | 'writableCgroup'>

const systemdShare = ({ container, host, image, node }: NodeInput): SystemdShare => {
  const isSystemd = node.detectSystemd === true && runsSystemd(commandLine(container, image))
  if (!isSystemd) return { env: [], mounts: [], stopSignal: undefined, warnings: [], writableCgroup: false }
  const isVersion2 = host.cgroupVersion === 2
  return {
    env: [CONTAINER_VARIABLE],
    mounts: systemdMounts(),
    stopSignal: SYSTEMD_STOP_SIGNAL,
    writableCgroup: isVersion2,
    warnings: isVersion2 ? [] : ['systemd finds no cgroup to write to: this host runs cgroup version 1'],
  }
}

const quotaShare = ({ asked, container, sandbox }: NodeInput): { isLifted: boolean; warnings: readonly string[] } => {
  if (!wantsNoQuota(asked)) return { isLifted: false, warnings: [] }
  const isLifted = exclusiveCpus(container.linux?.resources, sandbox.linux?.cgroupParent ?? '') !== undefined
  return { isLifted, warnings: isLifted ? [] : ['The CPU limit stays: the container has no processors of its own'] }
}

/** "true" is how CRI-O's annotation was once written. */
export const wantsNoQuota = ({ cpuQuota }: FeatureValues): boolean => cpuQuota === 'disable' || cpuQuota === 'true'

const isTrue = (what: string, value: string | undefined): boolean => {
  if (value !== undefined && value !== 'true' && value !== 'false') {
    throw invalid(`Annotation for a ${what}: ${quoted(value)} is not "true" or "false"`)
  }
  return value === 'true'
}
