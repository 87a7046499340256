/** Listens on a unix socket with a name in the file system. A file that is no socket, and a socket that somebody answers on, are never touched. */
import { chmod, lstat, unlink } from 'node:fs/promises'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { isErrno } from '#linux/errno.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'

/**
 * The directory must be there.
 * @param mode who may connect
 * @throws RuntimeError failed-precondition when the path is taken by another file, or by a process that answers
 */
export async function listenOnPath(
  path: string,
  mode: number,
  accept: (socket: Socket) => void,
  log: Log,
): Promise<Server> {
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
    throw new RuntimeError('failed-precondition', `Cannot listen on "${path}"`, { cause })
  } finally {
    process.umask(umask)
  }
  server.removeAllListeners('error')
  server.on('error', (error) => log.warn('Cannot accept a connection', { socket: path, why: messageOf(error) }))
  await chmod(path, mode)
  return server
}

/** A socket file that nobody listens on is what a killed daemon leaves behind. */
export async function removeStale(path: string): Promise<void> {
  try {
    const stats = await lstat(path)
    if (!stats.isSocket()) throw new RuntimeError('failed-precondition', `Cannot listen on "${path}": it is no socket`)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return
    throw error
  }
  if (await answers(path)) {
    throw new RuntimeError('failed-precondition', `Cannot listen on "${path}": another process does`)
  }
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
