/** What a container with processors of its own asks of them, by the annotations that its handler allows. Pure. */
import type { FeatureValues } from '../oci/annotations/features.ts'
import { type CpuSet, difference } from '../oci/cpu-list.ts'
import { invalid, quoted } from '../oci/spec/refuse.ts'

export interface IsolationWishes {
  readonly cpus: CpuSet
  /** The scheduler moves nothing to or from these processors. */
  readonly withoutBalancing: boolean
  /** Processors that take no interrupts. */
  readonly withoutInterrupts: CpuSet
  /** The pod's cgroup must not limit them either. */
  readonly withoutQuota: boolean
  /** How long waking up may take, in the words of `pm_qos_resume_latency_us`. */
  readonly wakeLatency: string | undefined
  readonly governor: string | undefined
}

export interface WishInput {
  readonly features: FeatureValues
  readonly cpus: CpuSet
  /** The first of them with its hyper-threads, for those that keep one for housekeeping. */
  readonly housekeeping: CpuSet
}

/** @throws RuntimeError invalid-argument naming the annotation's value */
export const isolationWishes = ({ features, cpus, housekeeping }: WishInput): IsolationWishes => {
  const interrupts = oneOf('irq-load-balancing', features.irqLoadBalancing, ['disable', 'true', 'housekeeping'])
  return {
    cpus,
    withoutBalancing: oneOf('cpu-load-balancing', features.cpuLoadBalancing, ['disable', 'true']) !== undefined,
    withoutInterrupts:
      interrupts === undefined
        ? new Set<number>()
        : interrupts === 'housekeeping'
          ? difference(cpus, housekeeping)
          : cpus,
    withoutQuota: oneOf('cpu-quota', features.cpuQuota, ['disable', 'true']) !== undefined,
    wakeLatency: wakeLatency(features.cpuCStates),
    governor: governor(features.cpuFreqGovernor),
  }
}

export const asksForAnything = (wishes: IsolationWishes): boolean =>
  wishes.withoutBalancing ||
  wishes.withoutInterrupts.size > 0 ||
  wishes.withoutQuota ||
  wishes.wakeLatency !== undefined ||
  wishes.governor !== undefined

/** "enable" and "false" are how these annotations say "leave it as it is". */
const oneOf = (what: string, value: string | undefined, words: readonly string[]): string | undefined => {
  if (value === undefined || value === 'enable' || value === 'false') return undefined
  if (!words.includes(value))
    throw invalid(`Annotation for ${what}: ${quoted(value)} is not one of ${words.map(quoted).join(', ')}`)
  return value
}

/** "enable": every sleep state; "disable": none; "max_latency:10": those that are left within 10 µs. */
const wakeLatency = (value: string | undefined): string | undefined => {
  if (value === undefined) return undefined
  if (value === 'enable') return '0'
  if (value === 'disable') return 'n/a'
  const [, microseconds] = /^max_latency:(\d{1,9})$/.exec(value) ?? []
  if (microseconds === undefined) {
    throw invalid(
      `Annotation for cpu-c-states: ${quoted(value)} is not "enable", "disable" or "max_latency:<microseconds>"`,
    )
  }
  // The kernel's 0 is no limit at all.
  return Number(microseconds) === 0 ? 'n/a' : microseconds
}

const governor = (value: string | undefined): string | undefined => {
  if (value !== undefined && !/^[a-z_]{1,32}$/.test(value)) {
    throw invalid(`Annotation for cpu-freq-governor: ${quoted(value)} is not the name of a governor`)
  }
  return value
}
