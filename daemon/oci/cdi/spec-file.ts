/**
 * A CDI specification (Container Device Interface 0.3 to 1.1): what a vendor's device needs in a container. Written by
 * the node's administrator or a driver, so it may name programs to run; it is checked for form, not for intent.
 */
import { parse as parseYaml } from 'yaml'
import * as z from 'zod'
import { HOOK_STAGES } from '../spec/types.ts'

const text = z.string().refine((value) => !value.includes('\0'), 'has a NUL character')
const path = text.refine((value) => value.startsWith('/'), 'is not an absolute path')
const texts = z.array(text).max(10_000).nullish()
const id = z.int().min(0).max(4_294_967_295)

const deviceNode = z.object({
  path,
  hostPath: path.nullish(),
  type: z.enum(['c', 'b', 'u', 'p']).nullish(),
  major: z.int().min(0).nullish(),
  minor: z.int().min(0).nullish(),
  fileMode: z.int().min(0).max(0o7777).nullish(),
  permissions: z
    .string()
    .regex(/^[rwm]{0,3}$/)
    .nullish(),
  uid: id.nullish(),
  gid: id.nullish(),
})

const mount = z.object({ hostPath: text, containerPath: path, options: texts, type: text.nullish() })

const hook = z.object({
  hookName: z.enum(HOOK_STAGES),
  path,
  args: texts,
  env: z.array(text.regex(/^[^=]+=/)).nullish(),
  timeout: z.int().min(0).nullish(),
})

const edits = z.object({
  env: z.array(text.regex(/^[^=]+=/, 'is not written NAME=value')).nullish(),
  deviceNodes: z.array(deviceNode).max(1000).nullish(),
  mounts: z.array(mount).max(1000).nullish(),
  hooks: z.array(hook).max(100).nullish(),
  additionalGids: z.array(id).max(1000).nullish(),
  intelRdt: z.unknown().optional(),
  netDevices: z.unknown().optional(),
})

export type CdiEdits = z.infer<typeof edits>

const KIND = /^[A-Za-z]([A-Za-z0-9._-]*[A-Za-z0-9])?\/[A-Za-z]([A-Za-z0-9_-]*[A-Za-z0-9])?$/
const NAME = /^[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?$/

const document = z.object({
  cdiVersion: z.string().regex(/^v?(0\.[3-9]|1)\.\d+$/, 'is no version that is known'),
  kind: z.string().regex(KIND, 'is not "vendor/class"'),
  containerEdits: edits.nullish(),
  devices: z.array(z.object({ name: z.string().regex(NAME), containerEdits: edits })).max(10_000),
})

export interface CdiSpec {
  readonly kind: string
  /** For every container that gets a device of this file. */
  readonly edits: CdiEdits | undefined
  readonly devices: ReadonlyMap<string, CdiEdits>
}

/** JSON is YAML too. @throws when the text is not such a document */
export const parseCdiSpec = (content: string): CdiSpec => {
  const { kind, containerEdits, devices } = document.parse(parseYaml(content, { maxAliasCount: 100 }))
  const byName = new Map(devices.map((device) => [device.name, device.containerEdits]))
  if (byName.size < devices.length) throw new Error(`"${kind}" has two devices of one name`)
  return { kind, edits: containerEdits ?? undefined, devices: byName }
}

/** "vendor/class=name" in its parts. undefined when the text has not that form. */
export const parseCdiName = (name: string): { kind: string; device: string } | undefined => {
  const equals = name.indexOf('=')
  const kind = name.slice(0, equals)
  const device = name.slice(equals + 1)
  return equals > 0 && KIND.test(kind) && NAME.test(device) ? { kind, device } : undefined
}
