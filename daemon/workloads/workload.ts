/**
 * Workload partitioning: pods that carry an activation annotation get the resources that this node, and not their request,
 * decides on, so that what runs the node itself stays on the processors that are kept for it. Pure.
 */
import * as z from 'zod'
import { LinuxContainerResources } from '#proto/generated/api.ts'
import type { Annotations } from '../oci/annotations/allow.ts'
import { parseCpuList } from '../oci/cpu-list.ts'
import { invalid, quoted } from '../oci/spec/refuse.ts'

/** Microseconds, but `cpulimit`, which is in thousandths of a processor. */
export interface WorkloadResources {
  readonly cpushares?: number | undefined
  readonly cpuquota?: number | undefined
  readonly cpuperiod?: number | undefined
  readonly cpulimit?: number | undefined
  readonly cpuset?: string | undefined
}

export interface Workload {
  readonly activationAnnotation: string
  readonly annotationPrefix?: string | undefined
  readonly allowedAnnotations: readonly string[]
  readonly resources: WorkloadResources
}

export type Workloads = Readonly<Record<string, Workload>>

/** The first one by name of which the pod has the annotation. */
export const workloadOf = (workloads: Workloads, pod: Annotations): Workload | undefined =>
  Object.keys(workloads)
    .sort()
    .map((name) => workloads[name])
    .find((workload) => workload !== undefined && Object.hasOwn(pod, workload.activationAnnotation))

const override = z.strictObject({
  cpushares: z.int().min(2).max(262_144).optional(),
  cpuquota: z.int().min(1000).optional(),
  cpuperiod: z.int().min(1000).max(1_000_000).optional(),
  cpulimit: z.int().min(1).optional(),
  cpuset: z
    .string()
    .refine((text) => text !== '' && parseCpuList(text) !== undefined)
    .optional(),
})

const MAX_OVERRIDE_CHARACTERS = 4096

/** @throws RuntimeError invalid-argument naming the annotation */
const overrideOf = ({ annotationPrefix }: Workload, pod: Annotations, containerName: string): WorkloadResources => {
  const key = `${annotationPrefix}/${containerName}`
  const text = annotationPrefix !== undefined && Object.hasOwn(pod, key) ? pod[key] : undefined
  if (text === undefined) return {}
  const malformed = (cause?: unknown) =>
    invalid(`Annotation ${quoted(key)} has ${quoted(text)}, which are no resources of a workload in JSON`, cause)
  if (text.length > MAX_OVERRIDE_CHARACTERS) throw malformed()
  try {
    return override.parse(JSON.parse(text))
  } catch (cause) {
    throw malformed(cause)
  }
}

const DEFAULT_PERIOD = 100_000
const LEAST_QUOTA = 1000

/** The quota that comes of a limit in thousandths of a processor. */
const quotaOf = ({ cpulimit, cpuquota, cpuperiod }: WorkloadResources): number | undefined =>
  cpulimit === undefined
    ? cpuquota
    : Math.max(Math.floor((cpulimit * (cpuperiod ?? DEFAULT_PERIOD)) / 1000), LEAST_QUOTA)

/**
 * The resources with those of the workload in the place of the request's.
 * @throws RuntimeError invalid-argument for an annotation that is malformed
 */
export const withWorkload = (
  requested: LinuxContainerResources | undefined,
  workload: Workload | undefined,
  pod: Annotations,
  containerName: string,
): LinuxContainerResources | undefined => {
  if (!workload) return requested
  const own = overrideOf(workload, pod, containerName)
  const decided = { ...workload.resources, ...own }
  // A quota of the annotation is not overruled by the limit of the node.
  if (own.cpuquota !== undefined && own.cpulimit === undefined) decided.cpulimit = undefined
  const quota = quotaOf(decided)
  return LinuxContainerResources.fromPartial({
    ...requested,
    ...(decided.cpushares !== undefined && { cpuShares: BigInt(decided.cpushares) }),
    ...(quota !== undefined && { cpuQuota: BigInt(quota) }),
    ...(decided.cpuperiod !== undefined && { cpuPeriod: BigInt(decided.cpuperiod) }),
    ...(decided.cpuset !== undefined && { cpusetCpus: decided.cpuset }),
  })
}
