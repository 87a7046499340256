/**
 * Whether a container that is restored may do what the request says and no more. CRIU gives processes the rights that they had, whatever
 * the new request says, so the two have to say the same. Pure.
 */
import * as z from 'zod'
import { RuntimeError } from '#proto/errors.ts'
import { type OciSpec, specText } from '../oci/spec/types.ts'
import { archiveFiles, parse } from './archive.ts'

const names = z.array(z.string().max(4096)).max(10_000).default([])
const sets = ['bounding', 'effective', 'permitted', 'inheritable', 'ambient'] as const
const capabilities = z.object(Object.fromEntries(sets.map((set) => [set, names])))

const Mount = z.object({
  destination: z.string().max(4096),
  type: z.string().max(100).default(''),
  source: z.string().max(4096).default(''),
  options: names,
})

/** What of a spec confines a container. */
const Confinement = z.object({
  root: z.object({ readonly: z.boolean().default(false) }),
  process: z.object({
    terminal: z.boolean().default(false),
    user: z.object({ uid: z.int(), gid: z.int(), additionalGids: z.array(z.int()).default([]) }),
    capabilities: capabilities.default({}),
    noNewPrivileges: z.boolean().default(false),
    apparmorProfile: z.string().default(''),
    selinuxLabel: z.string().default(''),
  }),
  mounts: z.array(Mount).max(10_000).default([]),
  linux: z.object({
    namespaces: z.array(z.object({ type: z.string() })).default([]),
    seccomp: z.looseObject({ listenerPath: z.string().optional() }).optional(),
    maskedPaths: names,
    readonlyPaths: names,
    devices: z.array(z.looseObject({ path: z.string() })).default([]),
    uidMappings: z.array(z.unknown()).default([]),
    gidMappings: z.array(z.unknown()).default([]),
    rootfsPropagation: z.string().default(''),
  }),
})
type Confinement = z.infer<typeof Confinement>

/**
 * @param archived the text of the checkpoint's spec
 * @throws RuntimeError failed-precondition naming the first field that differs
 */
export function requireSameConfinement(archived: Buffer, wanted: OciSpec): void {
  const then = fieldsOf(parse(Confinement, archived, archiveFiles.spec))
  const now = fieldsOf(parse(Confinement, Buffer.from(specText(wanted)), archiveFiles.spec))
  const fields = [...new Set([...then.keys(), ...now.keys()])]
  const different = fields.find((field) => then.get(field) !== now.get(field))
  if (different === undefined) return
  throw new RuntimeError(
    'failed-precondition',
    `The checkpoint is not of a container such as this one is to be: ${JSON.stringify(different)} ${difference(then.get(different), now.get(different))}`,
  )
}

const difference = (then: string | undefined, now: string | undefined): string => {
  if (now === undefined) return 'is missing in the request'
  return then === undefined ? 'is not in the checkpoint' : 'differs'
}

/** Each field as text; of two that mean the same the text is the same. */
function fieldsOf({ root, process, mounts, linux }: Confinement): Map<string, string> {
  const { user, capabilities: caps, ...flags } = process
  const { listenerPath: _, ...filter } = linux.seccomp ?? {}
  return new Map<string, string>([
    ['root.readonly', String(root.readonly)],
    ...Object.entries(flags).map(([name, value]) => [`process.${name}`, String(value)] as const),
    ['process.user', JSON.stringify([user.uid, user.gid, sorted(user.additionalGids.map(String))])],
    ...sets.map((set) => [`process.capabilities.${set}`, sorted(caps[set] ?? [])] as const),
    ['linux.namespaces', sorted(linux.namespaces.map(({ type }) => type))],
    ['linux.seccomp', linux.seccomp === undefined ? 'none' : canonical(filter)],
    ['linux.maskedPaths', sorted(linux.maskedPaths)],
    ['linux.readonlyPaths', sorted(linux.readonlyPaths)],
    ['linux.devices', sorted(linux.devices.map(canonical))],
    ['linux.uidMappings', canonical(linux.uidMappings)],
    ['linux.gidMappings', canonical(linux.gidMappings)],
    ['linux.rootfsPropagation', linux.rootfsPropagation],
    ...mounts.map((mount, index) => mountField(mount, mounts.slice(0, index))),
  ])
}

/** Where a bind mount comes from is for the request to say. */
function mountField(mount: z.infer<typeof Mount>, earlier: readonly z.infer<typeof Mount>[]): [string, string] {
  const again = earlier.filter(({ destination }) => destination === mount.destination).length
  const isBind = mount.type === 'bind' || mount.options.some((option) => /^r?bind$/.test(option))
  const own = isBind ? 'bind' : `${mount.type} ${mount.source}`
  return [`mounts ${mount.destination}${again > 0 ? ` ${again + 1}` : ''}`, `${own} ${sorted(mount.options)}`]
}

const sorted = (list: readonly string[]): string => JSON.stringify([...new Set(list)].sort())

/** With the keys of objects in order. */
const canonical = (value: unknown): string =>
  JSON.stringify(value, (_key, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  )
