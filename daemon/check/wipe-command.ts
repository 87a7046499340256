/**
 * `cricket wipe`: removes all images, layers, writable layers and records of pods, because a person asked for it. It says what it
 * will remove before it does, and refuses while a daemon runs or a pod lives. Nothing else in this program ever wipes.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline/promises'
import * as z from 'zod'
import { isErrno } from '#linux/errno.ts'
import { linux } from '#linux/linux.ts'
import { monitorFiles } from '#proto/conmon.ts'
import { RuntimeError } from '#proto/errors.ts'
import { unseal } from '#storage/record.ts'
import { startPool } from '#storage/tar/confine.ts'
import { WorkerPool } from '#storage/tar/worker-pool.ts'
import type { CommandLine } from '../config/flags.ts'
import { loadConfig } from '../config/load.ts'
import { type Paths, pathsUnder } from '../paths.ts'

const WIPED = /^wiped-[0-9a-f]{16}$/

export async function wipeCommand({ flags, switches }: CommandLine): Promise<string> {
  const { root, state, storage } = loadConfig({ flags })
  const containersRoot = storage.containersRoot ?? root
  const paths = pathsUnder(root, state, containersRoot)
  const lock = lockAgainstDaemons(paths, root)
  try {
    await refuseWhileAlive(paths)
    const targets = await whatThereIs(paths, root, containersRoot)
    const told = describe(targets)
    if (targets.length === 0) return told
    if (!switches.has('yes') && !(await confirmed(told))) {
      throw new RuntimeError('failed-precondition', 'Nothing was removed: say --yes, or answer "wipe"')
    }
    unmountBelow(paths)
    for (const top of new Set([root, containersRoot])) await remove(top, targets)
    return `${switches.has('yes') ? told : ''}Removed.\n`
  } finally {
    lock.release()
  }
}

interface Target {
  readonly path: string
  readonly what: string
  readonly entries: number
}

/** A daemon holds both of its roots from its first moment. */
function lockAgainstDaemons(paths: Paths, root: string): { release(): void } {
  const held: { release(): void }[] = []
  const release = (): void => {
    for (const lock of held) lock.release()
  }
  try {
    for (const path of [paths.stateLock, join(paths.storage, 'lock')]) held.push(linux.lockFile(path))
  } catch (cause) {
    if (isErrno(cause, 'ENOENT')) return { release }
    release()
    if (!isErrno(cause, 'EWOULDBLOCK')) throw cause
    throw new RuntimeError('failed-precondition', `A daemon works with "${root}": stop it before wiping`, { cause })
  }
  return { release }
}

const RecordFile = z.looseObject({ bootId: z.string() })
const StatusFile = z.looseObject({ state: z.string() })
const LIVE = ['creating', 'created', 'running', 'ready']

/** By their records; of a container whose monitor wrote its end, that counts. */
async function refuseWhileAlive(paths: Paths): Promise<void> {
  const bootId = linux.bootId()
  const alive: string[] = []
  for (const [noun, dir] of [
    ['container', paths.containerRecords],
    ['sandbox', paths.sandboxRecords],
  ] as const)
    for (const id of await namesIn(dir)) {
      const record = RecordFile.safeParse(await contentOf(join(dir, id, 'config.json'))).data
      const status = StatusFile.safeParse(await contentOf(join(dir, id, 'status.json'))).data
      const ended =
        noun === 'container' && (await namesIn(join(paths.containers, id))).includes(monitorFiles.exitRecord)
      if (record?.bootId === bootId && LIVE.includes(status?.state ?? '') && !ended) alive.push(`${noun} "${id}"`)
    }
  if (alive.length === 0) return
  throw new RuntimeError(
    'failed-precondition',
    `Cannot wipe while pods live: ${alive.slice(0, 5).join(', ')}${alive.length > 5 ? ` and ${alive.length - 5} more` : ''}`,
  )
}

async function contentOf(path: string): Promise<unknown> {
  const file = await readFile(path, 'utf8').catch(() => '')
  const found = unseal(file)
  return found.is === 'damaged' ? undefined : found.content
}

/** What was moved aside by a wipe that did not come to its end is there to be removed, too. */
async function whatThereIs(paths: Paths, root: string, containersRoot: string): Promise<Target[]> {
  const all: [string, string][] = [
    [join(paths.storage, 'layers'), 'layers of images'],
    [join(paths.storage, 'blobs'), 'documents and files of images'],
    [join(paths.storage, 'rootfs'), 'writable layers of containers'],
    ...(containersRoot === root
      ? []
      : ([[join(containersRoot, 'rootfs'), 'writable layers of containers']] as [string, string][])),
    [paths.storage, 'what belongs to the storage'],
    [paths.images, 'records of images'],
    [paths.containerRecords, 'records of containers'],
    [paths.sandboxRecords, 'records of sandboxes'],
    [paths.ownVolumes, 'volumes that images declared'],
    ...(await namesIn(root))
      .filter((name) => WIPED.test(name))
      .map((name): [string, string] => [join(root, name), 'left by an earlier wipe']),
  ]
  const targets = await Promise.all(
    all.map(async ([path, what]) => ({ path, what, entries: (await namesIn(path)).length })),
  )
  return targets.filter(({ entries }) => entries > 0)
}

const describe = (targets: readonly Target[]): string =>
  targets.length === 0
    ? 'There is nothing to wipe.\n'
    : `This removes for good:\n${targets.map(({ path, what, entries }) => `  ${path}: ${entries} ${what}\n`).join('')}`

async function confirmed(told: string): Promise<boolean> {
  if (!process.stdin.isTTY) {
    process.stdout.write(told)
    return false
  }
  const terminal = createInterface({ input: process.stdin, output: process.stdout })
  try {
    return (await terminal.question(`${told}Type "wipe" to do it: `)).trim() === 'wipe'
  } finally {
    terminal.close()
  }
}

/** What dead containers left mounted: a tree that is seen elsewhere must not be emptied. */
function unmountBelow(paths: Paths): void {
  const below = (mountpoint: string): boolean =>
    [paths.containers, paths.storage].some((dir) => mountpoint.startsWith(`${dir}/`))
  for (const { mountpoint } of linux
    .readMountInfo()
    .filter(({ mountpoint }) => below(mountpoint))
    .reverse())
    linux.unmount(mountpoint, { detach: true })
}

/** Moves everything aside, at once, then deletes it: a wipe that is cut short leaves no half of anything in its place. */
async function remove(root: string, targets: readonly Target[]): Promise<void> {
  const aside = join(root, `wiped-${randomBytes(8).toString('hex')}`)
  await mkdir(aside, { mode: 0o700 })
  for (const { path } of targets.filter(({ path }) => path.startsWith(`${root}/`)))
    await rename(path, join(aside, randomBytes(8).toString('hex'))).catch((error: unknown) => {
      // Went with the directory that it was in.
      if (!isErrno(error, 'ENOENT')) throw error
    })
  linux.fsyncDirectory(root)
  await startPool()
  const workers = new WorkerPool({ size: 1, idleMs: 1000 })
  try {
    const { failures } = await workers.run('empty', { directory: aside })
    if (failures.length > 0) throw new RuntimeError('internal', `Cannot remove "${aside}": ${failures.join('; ')}`)
  } finally {
    await workers.close()
  }
  await rmdir(aside)
}

const namesIn = (dir: string): Promise<string[]> =>
  readdir(dir).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return []
    throw error
  })
