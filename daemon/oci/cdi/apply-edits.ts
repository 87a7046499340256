/** Puts what CDI devices need into a spec. What the vendor says wins over the container's own, as it does elsewhere. */
import { posix } from 'node:path'
import type { HostDevice } from '../spec/host.ts'
import { absolutePath, impossible, isWithin, quoted } from '../spec/refuse.ts'
import {
  HOOK_STAGES,
  type OciDevice,
  type OciDeviceRule,
  type OciHooks,
  type OciMount,
  type OciSpec,
} from '../spec/types.ts'
import type { CdiEdits } from './spec-file.ts'

/** Finds a device node of this host; throws for what is none. */
export type FindDevice = (path: string) => HostDevice

/** @throws RuntimeError failed-precondition for what this version cannot give, or the host does not have */
export const applyCdiEdits = (spec: OciSpec, all: readonly CdiEdits[], find: FindDevice): OciSpec =>
  all.reduce((edited, edits) => apply(edited, edits, find), spec)

const apply = (spec: OciSpec, edits: CdiEdits, find: FindDevice): OciSpec => {
  if (edits.intelRdt != null) throw impossible('A CDI device asks for intelRdt, which is not supported')
  if (edits.netDevices != null) throw impossible('A CDI device asks for netDevices, which are not supported')
  const devices = (edits.deviceNodes ?? []).map((node) => deviceOf(node, find, spec.process.user))
  const { process, linux } = spec
  return {
    ...spec,
    process: {
      ...process,
      env: withEnv(process.env, edits.env ?? []),
      user: { ...process.user, additionalGids: [...new Set([...process.user.additionalGids, ...gids(edits)])] },
    },
    mounts: withMounts(spec.mounts, (edits.mounts ?? []).map(mountOf)),
    ...withHooks(spec.hooks, edits),
    linux: {
      ...linux,
      devices: [
        ...linux.devices.filter(({ path }) => !devices.some(({ node }) => node.path === path)),
        ...devices.map(({ node }) => node),
      ],
      resources: {
        ...linux.resources,
        devices: [...(linux.resources.devices ?? []), ...devices.map(({ rule }) => rule)],
      },
    },
  }
}

/** Group 0 would be a way to give a container the group of the host's root by accident: the reference leaves it out too. */
const gids = ({ additionalGids }: CdiEdits): number[] => (additionalGids ?? []).filter((gid) => gid !== 0)

const withEnv = (env: readonly string[], added: readonly string[]): string[] => {
  const byName = new Map([...env, ...added].map((entry) => [entry.slice(0, entry.indexOf('=')), entry]))
  return [...byName.values()]
}

type Node = NonNullable<CdiEdits['deviceNodes']>[number]

const deviceOf = (
  node: Node,
  find: FindDevice,
  user: { readonly uid: number; readonly gid: number },
): { node: OciDevice; rule: OciDeviceRule } => {
  if (node.type === 'p') throw impossible(`CDI device node ${quoted(node.path)} is a FIFO, which is not supported`)
  const type = node.type === 'u' ? 'c' : node.type
  const isComplete = type != null && node.major != null && node.minor != null && node.major > 0
  const host = isComplete ? undefined : find(absolutePath('CDI device node', node.hostPath ?? node.path))
  if (host && type != null && host.type !== type)
    throw impossible(`CDI device node ${quoted(host.path)} is not of type "${type}"`)
  const device = {
    type: host?.type ?? type ?? 'c',
    major: host?.major ?? node.major ?? 0,
    minor: host?.minor ?? node.minor ?? 0,
  }
  const made = {
    ...device,
    path: absolutePath('CDI device node', node.path),
    fileMode: node.fileMode ?? host?.mode ?? 0o660,
    // As the reference does: a device without an owner belongs to the container's user.
    uid: node.uid ?? user.uid,
    gid: node.gid ?? user.gid,
  }
  return { node: made, rule: { allow: true, ...device, access: node.permissions || 'rwm' } }
}

const mountOf = (mount: NonNullable<CdiEdits['mounts']>[number]): OciMount => {
  const destination = absolutePath('CDI mount', mount.containerPath)
  if (destination === '/' || isWithin(destination, '/proc'))
    throw impossible(`CDI mount ${quoted(destination)} is refused`)
  return {
    destination,
    source: mount.hostPath,
    type: mount.type || 'bind',
    options: mount.options ?? ['rbind', 'rprivate'],
  }
}

const withMounts = (mounts: readonly OciMount[], added: readonly OciMount[]): OciMount[] => {
  const places = new Set(added.map(({ destination }) => destination))
  const all = [...mounts.filter(({ destination }) => !places.has(posix.normalize(destination))), ...added]
  return all.sort((a, b) => a.destination.split('/').length - b.destination.split('/').length)
}

const withHooks = (before: OciHooks | undefined, { hooks }: CdiEdits): { hooks?: OciHooks } => {
  if (!hooks?.length) return before ? { hooks: before } : {}
  const stages = HOOK_STAGES.flatMap((stage) => {
    const added = hooks.filter(({ hookName }) => hookName === stage).map(hookOf)
    const list = [...(before?.[stage] ?? []), ...added]
    return list.length > 0 ? [[stage, list]] : []
  })
  return { hooks: Object.fromEntries(stages) }
}

const hookOf = ({ path, args, env, timeout }: NonNullable<CdiEdits['hooks']>[number]) => ({
  path,
  ...(args && { args }),
  ...(env && { env }),
  ...(timeout != null && timeout > 0 && { timeout }),
})
