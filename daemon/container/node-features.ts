/** What configuration and annotations give one container beyond the CRI, in the words of the spec builder. */
import { ContainerConfig } from '#proto/generated/api.ts'
import type { Config } from '../config/schema.ts'
import { housekeepingCpus } from '../cpu-isolation/housekeeping.ts'
import { isolationWishes } from '../cpu-isolation/wishes.ts'
import { type AllowedAnnotations, allowAnnotations } from '../oci/annotations/allow.ts'
import { blockioClass } from '../oci/classes/blockio-class.ts'
import { classOf } from '../oci/classes/class-of.ts'
import { rdtClass } from '../oci/classes/rdt-class.ts'
import { formatCpuList } from '../oci/cpu-list.ts'
import type { RuntimeHandler } from '../oci/runtime-handlers.ts'
import { parseConfiguredDevice } from '../oci/spec/devices.ts'
import { exclusiveCpus } from '../oci/spec/exclusive-cpus.ts'
import type { NodeOptions } from '../oci/spec/node-options.ts'
import { invalid, quoted } from '../oci/spec/refuse.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'
import type { NotifierAction } from '../seccomp/notifier.ts'
import { withWorkload, workloadOf } from '../workloads/workload.ts'

export interface NodeFeatures {
  /** The request with the resources of its workload and the devices of its annotation. */
  readonly config: ContainerConfig
  readonly annotations: AllowedAnnotations
  readonly node: NodeOptions
  readonly warnings: readonly string[]
}

/** @throws RuntimeError invalid-argument, failed-precondition naming the annotation */
export const nodeFeatures = (
  settings: Config,
  handler: RuntimeHandler,
  sandbox: Sandbox,
  config: ContainerConfig,
  seccompListener: string,
): NodeFeatures => {
  const pod = sandbox.record.config.annotations
  const containerName = config.metadata?.name ?? ''
  const asked = { pod, container: config.annotations, containerName }
  const annotations = annotationsOf(settings, handler, sandbox, config)
  const warnings = annotations.ignored.map(
    (name) => `Annotation ${quoted(name)} has no effect: handler "${handler.name}" does not allow it`,
  )
  const { container } = settings
  const decided = withDecided(settings, pod, config)
  // Only for its complaints, which belong to the creation.
  isolationWishes({ features: annotations.features, cpus: new Set(), housekeeping: new Set() })
  return {
    config: withDevices(decided, annotations, container.allowedDevices),
    annotations,
    node: {
      minGomaxprocs: container.minGomaxprocs,
      detectSystemd: container.systemd === 'detect',
      execCpuAffinity: handler.execCpuAffinity,
      housekeepingCpus: housekeeping(annotations, decided, sandbox),
      seccompListener: notifierAction(annotations) && seccompListener,
      rdt: rdtClass(container.rdtClasses, classOf('rdt', asked)),
      blockIo: blockioClass(container.blockioConfig, classOf('blockio', asked), (why) => warnings.push(why)),
    },
    warnings,
  }
}

/** "stop", or any other word for telling only, as CRI-O has it. @throws RuntimeError invalid-argument for other words */
export const notifierAction = ({ features }: AllowedAnnotations): NotifierAction | undefined => {
  const word = features.seccompNotifier
  if (word === undefined || word === 'stop') return word
  if (word === 'log' || word === '') return 'log'
  throw invalid(`Annotation for seccomp-notifier: ${quoted(word)} is not "log" or "stop"`)
}

const housekeeping = (
  { features }: AllowedAnnotations,
  { linux }: ContainerConfig,
  sandbox: Sandbox,
): string | undefined => {
  if (features.irqLoadBalancing !== 'housekeeping') return undefined
  const cpus = exclusiveCpus(linux?.resources, sandbox.record.config.linux?.cgroupParent ?? '')
  return cpus && formatCpuList(housekeepingCpus(cpus))
}

/** What of the pod's annotations counts for a container of it. */
export const annotationsOf = (
  settings: Pick<Config, 'workloads'>,
  handler: Pick<RuntimeHandler, 'allowedAnnotations'>,
  sandbox: Sandbox,
  config: ContainerConfig,
): AllowedAnnotations => {
  const pod = sandbox.record.config.annotations
  return allowAnnotations({
    pod,
    container: config.annotations,
    containerName: config.metadata?.name ?? '',
    patterns: [
      ...(handler.allowedAnnotations ?? []),
      ...(workloadOf(settings.workloads, pod)?.allowedAnnotations ?? []),
    ],
  })
}

const withDecided = (
  { workloads }: Config,
  pod: Readonly<Record<string, string>>,
  config: ContainerConfig,
): ContainerConfig => {
  const workload = workloadOf(workloads, pod)
  if (!workload) return config
  const resources = withWorkload(config.linux?.resources, workload, pod, config.metadata?.name ?? '')
  return { ...config, linux: { securityContext: undefined, ...config.linux, resources } }
}

/** "/dev/fuse,/dev/net/tun:/dev/tun:rw", each of them allowed by the configuration. */
const withDevices = (
  config: ContainerConfig,
  { features }: AllowedAnnotations,
  allowed: readonly string[],
): ContainerConfig => {
  if (features.devices === undefined) return config
  const devices = features.devices.split(',').map((text) => {
    const device = parseConfiguredDevice(text.trim())
    if (!device) throw invalid(`Annotation for devices: ${quoted(text)} is not "/dev/name[:/dev/other[:rwm]]"`)
    if (!allowed.includes(device.hostPath)) {
      throw invalid(`Annotation for devices: ${quoted(device.hostPath)} is not one of container.allowedDevices`)
    }
    return device
  })
  return ContainerConfig.fromPartial({ ...config, devices: [...devices, ...config.devices] })
}
