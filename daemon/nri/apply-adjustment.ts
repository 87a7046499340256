/** Puts what plugins adjust into the OCI spec of a container that is being created. Pure: what has to be looked up is given. */
import type { LinuxContainerResources } from '#proto/generated/api.ts'
import type { ContainerAdjustment, LinuxContainerAdjustment } from '#proto/generated/nri.ts'
import { mergeResources, noResources } from '../oci/resources-record.ts'
import type { SpecHost } from '../oci/spec/host.ts'
import { overlayOci } from '../oci/spec/overlay-resources.ts'
import { absolutePath, impossible, quoted } from '../oci/spec/refuse.ts'
import { oomScoreAdj, resourceLimits } from '../oci/spec/resources.ts'
import { clampRlimits } from '../oci/spec/rlimits.ts'
import {
  HOOK_STAGES,
  type OciBlockIo,
  type OciHook,
  type OciMount,
  type OciRdt,
  type OciResources,
  type OciRlimit,
  type OciSpec,
} from '../oci/spec/types.ts'
import { adjustedTable } from './adjusted-table.ts'
import { adjustedLinux, adjustedProcess } from './apply-linux.ts'
import { removed } from './owners.ts'
import { beyondCri, toCri } from './resource-message.ts'

export interface AdjustContext {
  readonly host: SpecHost
  /** The limits that the kubelet asked for. */
  readonly requested: LinuxContainerResources | undefined
  /** The spec with what these devices bring. */
  withCdi(spec: OciSpec, names: readonly string[]): OciSpec
  /** Classes by their name. @throws RuntimeError for one that there is not */
  blockIo(name: string): OciBlockIo | undefined
  rdt(name: string): OciRdt | undefined
}

export interface AdjustedSpec {
  readonly spec: OciSpec
  /** The limits in force, where plugins changed them. */
  readonly resources: LinuxContainerResources | undefined
  readonly warnings: readonly string[]
}

/** @throws RuntimeError invalid-argument, failed-precondition for what this node cannot give */
export function applyAdjustment(spec: OciSpec, adjustment: ContainerAdjustment, context: AdjustContext): AdjustedSpec {
  const { cdiDevices, linux } = adjustment
  const withDevices =
    cdiDevices.length > 0
      ? context.withCdi(
          spec,
          cdiDevices.map(({ name }) => name),
        )
      : spec
  const plain = withoutLimits(withDevices, adjustment, context)
  if (!linux) return { ...plain, resources: undefined }
  const limited = withLimits(plain.spec, linux, context)
  return { ...limited, warnings: [...plain.warnings, ...limited.warnings] }
}

function withoutLimits(spec: OciSpec, adjustment: ContainerAdjustment, { host }: AdjustContext) {
  const { annotations, env, args, rlimits, linux } = adjustment
  const mounts = adjustedMounts(spec, adjustment, host)
  const score = linux?.oomScoreAdj && oomScoreAdj(linux.oomScoreAdj.value, host)
  const adjusted: OciSpec = {
    ...spec,
    annotations: adjustedTable(spec.annotations, annotations),
    process: {
      ...adjustedProcess(spec.process, linux),
      args: args.length > 0 ? args : spec.process.args,
      env: adjustedEnv(spec.process.env, env),
      oomScoreAdj: score?.value ?? spec.process.oomScoreAdj,
      ...(rlimits.length > 0 && { rlimits: adjustedRlimits(spec.process.rlimits ?? [], rlimits, host) }),
    },
    mounts: mounts.mounts,
    ...withHooks(spec, adjustment),
    linux: {
      ...(linux ? adjustedLinux(spec.linux, linux) : spec.linux),
      ...(mounts.propagation !== undefined && { rootfsPropagation: mounts.propagation }),
    },
  }
  return { spec: adjusted, warnings: [...mounts.warnings, ...(score?.warnings ?? [])] }
}

/** What is replaced keeps its place. */
function adjustedEnv(env: readonly string[], wanted: ContainerAdjustment['env']): string[] {
  const gone = new Set(wanted.flatMap(({ key }) => removed(key) ?? []))
  const set = new Map(wanted.filter(({ key }) => removed(key) === undefined).map(({ key, value }) => [key, value]))
  for (const key of set.keys()) {
    if (!/^[^=\0]+$/.test(key)) throw impossible(`NRI plugins: the name of variable ${quoted(key)} is malformed`)
  }
  const kept = env.flatMap((entry) => {
    const name = entry.split('=', 1)[0] ?? ''
    const value = set.get(name)
    set.delete(name)
    if (value !== undefined) return [`${name}=${value}`]
    return gone.has(name) ? [] : [entry]
  })
  return [...kept, ...[...set].map(([key, value]) => `${key}=${value}`)]
}

const UNLIMITED = 2n ** 64n - 1n

function adjustedRlimits(
  before: readonly OciRlimit[],
  wanted: ContainerAdjustment['rlimits'],
  { hardLimits }: SpecHost,
): OciRlimit[] {
  const number = (value: bigint) => (value >= UNLIMITED ? Number.POSITIVE_INFINITY : Number(value))
  const added = wanted.map(({ type, soft, hard }) => ({ type, soft: number(soft), hard: number(hard) }))
  const kept = before.filter(({ type }) => !added.some((other) => other.type === type))
  return [...kept, ...clampRlimits(added, hardLimits)]
}

function adjustedMounts(spec: OciSpec, { mounts: wanted }: ContainerAdjustment, host: SpecHost) {
  const gone = new Set(wanted.map(({ destination }) => removed(destination) ?? destination))
  const warnings: string[] = []
  let propagation: string | undefined
  const added: OciMount[] = []
  for (const { destination, type, source, options } of wanted) {
    if (removed(destination) !== undefined) continue
    const place = absolutePath('NRI mount', destination)
    if (place === '/') throw impossible('NRI plugins: a mount on the root directory is refused')
    // No option of the kernel's: it asks for a label.
    if (options.includes('relabel') && host.selinuxEnabled)
      warnings.push(`The source of mount ${place} is not relabelled`)
    if (options.includes('rshared')) propagation = 'rshared'
    if (options.includes('rslave')) propagation ??= 'rslave'
    added.push({ destination: place, type, source, options: options.filter((option) => option !== 'relabel') })
  }
  const kept = spec.mounts.filter(({ destination }) => !gone.has(destination))
  const depth = ({ destination }: OciMount) => destination.split('/').length
  const isWider = propagation === 'rshared' || spec.linux.rootfsPropagation === undefined
  return {
    mounts: wanted.length === 0 ? spec.mounts : [...kept, ...added].sort((a, b) => depth(a) - depth(b)),
    propagation: isWider ? propagation : undefined,
    warnings,
  }
}

function withHooks({ hooks: before }: OciSpec, { hooks: wanted }: ContainerAdjustment): Pick<OciSpec, 'hooks'> {
  const stages = HOOK_STAGES.flatMap((stage) => {
    const added: OciHook[] = (wanted?.[stage] ?? []).map(({ path, args, env, timeout }) => ({
      path: absolutePath('NRI hook', path),
      ...(args.length > 0 && { args }),
      ...(env.length > 0 && { env }),
      ...(timeout && timeout.value > 0n && { timeout: Number(timeout.value) }),
    }))
    const list = [...(before?.[stage] ?? []), ...added]
    return list.length > 0 ? [[stage, list] as const] : []
  })
  return stages.length > 0 ? { hooks: Object.fromEntries(stages) } : {}
}

/** The kubelet's part of the limits is checked and recorded like its own. */
function withLimits(spec: OciSpec, linux: LinuxContainerAdjustment, context: AdjustContext): AdjustedSpec {
  const wanted = linux.resources
  if (!wanted) return { spec, resources: scoreOf(undefined, linux, context), warnings: [] }
  const change = toCri(wanted)
  const resources = mergeResources(context.requested ?? noResources(), change)
  const all = resourceLimits(resources, context.host)
  const asked = resourceLimits(forCheck(change, resources), context.host).resources
  const blockIO = wanted.blockioClass && context.blockIo(wanted.blockioClass.value)
  const intelRdt = wanted.rdtClass && context.rdt(wanted.rdtClass.value)
  const limited = overlayOci(overlayOci(spec.linux.resources, asked), beyondCri(wanted))
  const { blockIO: _, ...rest } = limited
  const withBlockIo: OciResources = wanted.blockioClass ? { ...rest, ...(blockIO && { blockIO }) } : limited
  const { intelRdt: before, ...others } = spec.linux
  const rdt = wanted.rdtClass ? intelRdt : before
  return {
    spec: { ...spec, linux: { ...others, resources: withBlockIo, ...(rdt && { intelRdt: rdt }) } },
    resources: scoreOf(resources, linux, context),
    warnings: all.warnings,
  }
}

/** Limits of memory and swap are judged together. */
const forCheck = (change: LinuxContainerResources, all: LinuxContainerResources): LinuxContainerResources => {
  const isMemory = change.memoryLimitInBytes !== 0n || change.memorySwapLimitInBytes !== 0n
  const { memoryLimitInBytes, memorySwapLimitInBytes } = all
  return isMemory ? { ...change, memoryLimitInBytes, memorySwapLimitInBytes } : change
}

const scoreOf = (
  resources: LinuxContainerResources | undefined,
  { oomScoreAdj: score }: LinuxContainerAdjustment,
  { requested }: AdjustContext,
): LinuxContainerResources | undefined =>
  score ? { ...(resources ?? requested ?? noResources()), oomScoreAdj: score.value } : resources
