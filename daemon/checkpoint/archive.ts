/** The names in the archive of a checkpoint, as CRI-O, Podman and checkpointctl have them, and its documents. */
import { isUtf8 } from 'node:buffer'
import * as z from 'zod'
import { RuntimeError } from '#proto/errors.ts'

export const archiveFiles = {
  /** Whose checkpoint it is. */
  config: 'config.dump',
  /** The OCI spec of the container. */
  spec: 'spec.dump',
  /** What CRIU wrote: the memory of the processes, their open files. */
  images: 'checkpoint',
  /** What the container changed in its root file system. */
  rootfs: 'rootfs-diff.tar',
  /** What it deleted there: a list of names. */
  deleted: 'deleted.files',
  log: 'dump.log',
  statistics: 'stats-dump',
} as const

const text = (max: number) => z.string().max(max)

/** Unknown fields are ignored: each of the programs has some of its own. */
const ConfigDump = z.object({
  id: text(200),
  name: text(1000),
  rootfsImage: text(1000).default(''),
  rootfsImageRef: text(1000).default(''),
  rootfsImageName: text(1000).default(''),
  runtime: text(200).default(''),
  createdTime: text(100).default(''),
  checkpointedTime: text(100).default(''),
  restoredTime: text(100).default(''),
  restored: z.boolean().default(false),
})
export type ConfigDump = z.infer<typeof ConfigDump>

const DeletedFiles = z.array(z.string().min(1).max(4096)).max(1_000_000)

export const parseConfigDump = (bytes: Buffer): ConfigDump => parse(ConfigDump, bytes, archiveFiles.config)

/** One character per byte. @throws RuntimeError failed-precondition */
export const parseDeletedFiles = (bytes: Buffer): string[] =>
  parse(DeletedFiles, bytes, archiveFiles.deleted).map((name) => Buffer.from(name).toString('latin1'))

/** Checks with a schema. The error names file and field, never a value: it may be anything. */
export function parse<T extends z.ZodType>(schema: T, bytes: Buffer, file: string): z.output<T> {
  let json: unknown
  try {
    if (!isUtf8(bytes)) throw new TypeError('not UTF-8')
    json = JSON.parse(bytes.toString())
  } catch (cause) {
    throw new RuntimeError('failed-precondition', `The checkpoint's "${file}" is not JSON`, { cause })
  }
  const result = schema.safeParse(json)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  const field = issue?.path.map(String).join('.').slice(0, 100) || 'document'
  throw new RuntimeError('failed-precondition', `The checkpoint's "${file}" is not valid: ${field}`)
}
