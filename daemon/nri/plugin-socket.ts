/** The socket that plugins connect to: root's alone, in a directory of its own. Whoever connects can change every container of the node. */
import { chmod, lstat, mkdir, unlink } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { dirname } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'

export interface PluginSocket {
  /** Nobody can connect any more. */
  close(): void
}

/** @throws RuntimeError failed-precondition when another process listens there, or something else has the name */
export async function openPluginSocket(
  path: string,
  accept: (socket: Socket) => void,
  log: Log,
): Promise<PluginSocket> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  await removeStale(path)
  const server = createServer(accept)
  // Nobody but root may connect in the moment between bind and chmod.
  const umask = process.umask(0o177)
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(path, resolve)
    })
  } catch (cause) {
    throw new RuntimeError('failed-precondition', `Cannot listen for plugins on "${path}"`, { cause })
  } finally {
    process.umask(umask)
  }
  await chmod(path, 0o600)
  server.removeAllListeners('error')
  server.on('error', (error) => log.warn('Cannot accept a plugin', { socket: path, why: messageOf(error) }))
  return { close: () => void server.close() }
}

/** A socket file that nobody listens on is what a killed daemon leaves behind. */
async function removeStale(path: string): Promise<void> {
  try {
    const stats = await lstat(path)
    if (!stats.isSocket()) throw new RuntimeError('failed-precondition', `Cannot listen on "${path}": it is no socket`)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return
    throw error
  }
  if (await answers(path)) throw new RuntimeError('failed-precondition', `Another process listens on "${path}"`)
  await unlink(path)
}

const answers = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(path)
    const end = (answer: boolean) => {
      socket.destroy()
      resolve(answer)
    }
    socket.once('connect', () => end(true))
    socket.once('error', () => end(false))
  })
