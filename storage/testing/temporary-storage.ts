/** A storage in a directory of its own, with the few steps that nearly every test begins with. For tests. */
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  type Stats,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Linux, linux as realLinux } from '#linux/linux.ts'
import { lgetXattr } from '#linux/xattr.ts'
import { type Log, silentLog } from '#proto/log.ts'
import { type DiffId, type Digest, digestOf, parseDiffId } from '../digest.ts'
import type { LayerInfo } from '../layer-store.ts'
import { DEFAULT_SNAPSHOT_OPTIONS, type SnapshotOptions } from '../snapshot/open-drivers.ts'
import { openStorage, type Storage } from '../storage.ts'
import type { UnpackLimits } from '../tar/limits.ts'

export interface TemporaryStorage {
  readonly directory: string
  readonly root: string
  storage: Storage
  /** Stores an archive as a blob. */
  put(blob: Buffer): Promise<Digest>
  /** Stores and unpacks an archive. `blob` is how it travels, the archive itself when not given. */
  unpack(archive: Buffer, blob?: Buffer): Promise<LayerInfo>
  /** Where a rootfs may be mounted. */
  mountpoint(name: string): string
  /** Closes and opens again, as a new daemon would. */
  reopen(): Promise<void>
}

export interface TemporaryOptions {
  readonly linux?: Linux
  readonly limits?: Partial<UnpackLimits>
  readonly snapshots?: Partial<SnapshotOptions>
  /** Where containers write, when not in the storage. */
  readonly containers?: string
  readonly log?: Log
}

/** Everything is unmounted and removed when the test ends, or the file when given its `after`. */
export const temporaryStorage = async (
  t: { after(cleanUp: () => Promise<void>): void },
  options: TemporaryOptions = {},
): Promise<TemporaryStorage> => {
  const directory = mkdtempSync(join(tmpdir(), 'storage-'))
  const root = join(directory, 'storage')
  const open = (): Promise<Storage> =>
    openStorage({
      root,
      linux: options.linux ?? realLinux,
      log: options.log ?? silentLog,
      snapshots: { ...DEFAULT_SNAPSHOT_OPTIONS, ...options.snapshots },
      ...(options.limits !== undefined && { limits: options.limits }),
      ...(options.containers !== undefined && { containers: options.containers }),
    })
  const put = async (blob: Buffer): Promise<Digest> => {
    const digest = digestOf(blob)
    await temporary.storage.blobs.put(digest, inPieces(blob), { size: blob.length })
    return digest
  }
  const temporary: TemporaryStorage = {
    directory,
    root,
    storage: await open(),
    put,
    unpack: async (archive, blob = archive) =>
      temporary.storage.layers.unpack({ diffId: diffIdOf(archive), blob: await put(blob) }),
    mountpoint: (name) => join(directory, 'mounts', name),
    reopen: async () => {
      await temporary.storage.close()
      temporary.storage = await open()
    },
  }
  t.after(async () => {
    await temporary.storage.close()
    for (const name of namesIn(join(directory, 'mounts')))
      realLinux.unmount(join(directory, 'mounts', name), { detach: true })
    rmSync(directory, { recursive: true, force: true })
  })
  return temporary
}

export const diffIdOf = (archive: Buffer): DiffId => parseDiffId(digestOf(archive))

export async function* inPieces(bytes: Buffer, length = 64 * 1024): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length)
}

const namesIn = (directory: string): string[] => {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}

/** Everything below a directory, one line each, in the order of names: enough to tell whether two trees are the same. */
export const describeTree = (root: string): string[] => {
  const lines: string[] = []
  const visit = (path: Buffer, name: string): void => {
    // Overlayfs lists whiteouts of a directory that only one layer has, and then denies that they exist.
    const stat = lstatSync(path, { throwIfNoEntry: false })
    if (stat === undefined) return
    const mode = (stat.mode & 0o7777).toString(8).padStart(4, '0')
    const opaque = stat.isDirectory() && lgetXattr(path, 'trusted.overlay.opaque') !== undefined ? ' opaque' : ''
    lines.push(`${name} ${mode} ${stat.uid}:${stat.gid}${contentOf(path, stat)}${opaque}`)
    if (!stat.isDirectory()) return
    const children = readdirSync(path, { encoding: 'latin1' }).sort()
    for (const child of children) visit(Buffer.concat([path, Buffer.from(`/${child}`, 'latin1')]), `${name}/${child}`)
  }
  visit(Buffer.from(root), '.')
  return lines
}

const contentOf = (path: Buffer, stat: Stats): string => {
  if (stat.isDirectory()) return ' dir'
  if (stat.isSymbolicLink()) return ` -> ${readlinkSync(path, 'latin1')}`
  if (stat.isFile()) return ` "${readFileSync(path, 'latin1').slice(0, 60)}"`
  const kind = stat.isCharacterDevice() ? 'char' : stat.isBlockDevice() ? 'block' : stat.isFIFO() ? 'fifo' : 'other'
  return ` ${kind} ${Number(stat.rdev) >> 8}:${Number(stat.rdev) & 0xff}`
}

/** A directory outside of the storage that nothing may touch. */
export const canary = (directory: string): { path: string; before: string[]; now: () => string[] } => {
  const path = join(directory, 'canary')
  mkdirSync(path)
  writeFileSync(join(path, 'secret'), 'untouched', { mode: 0o600 })
  const now = (): string[] => describeTree(path)
  return { path, before: now(), now }
}
