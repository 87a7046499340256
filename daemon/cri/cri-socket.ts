/**
 * The unix socket on which clients find the daemon: made, looked after for as long as the daemon lives (an operator, or a
 * cleaner of /run, may take the file away), and removed at its end. A socket that somebody answers on is never touched.
 */
import { type FSWatcher, watch } from 'node:fs'
import { lstat, mkdir } from 'node:fs/promises'
import type { Server, Socket } from 'node:net'
import { basename, dirname } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import { messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { listenOnPath, removeStale } from '../listen-on-path.ts'

export interface CriSocket {
  /** Nobody can connect any more; those who are connected stay. */
  close(): Promise<void>
}

/** How often the file is looked at while something is wrong. A client that was cut off asks again for longer than this. */
const lookAgainMs = 1_000
/** And while its directory tells of changes: an event can be lost. */
const lookAnywayMs = 30_000

/** @throws RuntimeError failed-precondition when the path is taken by another file, or by a process that answers */
export async function openSocket(path: string, accept: (socket: Socket) => void, log: Log): Promise<CriSocket> {
  let bound = await bind(path, accept, log)
  let problem: string | undefined
  const look = async () => {
    if ((await identityOf(path)) === bound.identity) return
    await mkdir(dirname(path), { recursive: true, mode: 0o711 })
    await removeStale(path)
    // Now, as it removes whatever has the name.
    bound.server.close()
    bound = await bind(path, accept, log)
    log.warn('The socket file was taken away; made it again', { socket: path })
  }
  const lookAndTell = async () => {
    try {
      await look()
      problem = undefined
    } catch (error) {
      const why = messageOf(error)
      if (why !== problem) log.error('Clients cannot find the daemon', { socket: path, why })
      problem = why
    }
  }
  const lookout = keepLooking(path, lookAndTell, () => problem !== undefined)
  return {
    close: async () => {
      await lookout.close()
      const isOurs = (await identityOf(path)) === bound.identity
      // Removes the file by its name: what another process has put there stays.
      if (isOurs) bound.server.close()
    },
  }
}

/** Looks when something happens to the file, and at times; one look after the other. */
function keepLooking(path: string, look: () => Promise<void>, isWrong: () => boolean): { close(): Promise<void> } {
  let watcher: FSWatcher | undefined
  let timer: NodeJS.Timeout | undefined
  let looking: Promise<void> | undefined
  let isDue = false
  let isClosed = false
  const names = new Set<string | null>([basename(path), basename(dirname(path)), null])
  const arm = () => {
    watcher?.close()
    try {
      watcher = watch(dirname(path), { persistent: false }, (_event, name) => names.has(name) && soon())
      watcher.on('error', () => {})
    } catch {
      // The directory is not there, or there are too many watches.
      watcher = undefined
    }
  }
  const soon = () => {
    isDue = true
    if (!looking) lookIn(0)
  }
  const lookIn = (ms: number) => {
    clearTimeout(timer)
    if (!isClosed) timer = setTimeout(run, ms).unref()
  }
  const run = () => {
    if (isClosed || looking) return
    isDue = false
    // Before the look, so that nothing that happens after it is missed. The directory may be another one than the last time.
    arm()
    looking = look().finally(() => {
      looking = undefined
      lookIn(isDue ? 0 : watcher && !isWrong() ? lookAnywayMs : lookAgainMs)
    })
  }
  run()
  return {
    close: async () => {
      isClosed = true
      clearTimeout(timer)
      watcher?.close()
      await looking
    },
  }
}

interface Bound {
  readonly server: Server
  readonly identity: string | undefined
}

async function bind(path: string, accept: (socket: Socket) => void, log: Log): Promise<Bound> {
  const server = await listenOnPath(path, 0o660, accept, log)
  return { server, identity: await identityOf(path) }
}

/** Which file it is; undefined when there is none. */
async function identityOf(path: string): Promise<string | undefined> {
  try {
    const { dev, ino } = await lstat(path, { bigint: true })
    return `${dev}:${ino}`
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw error
  }
}
