/** Stream sockets in the file system, without the memory of `node:net`. Non-blocking, close-on-exec. */
import { closeSync, constants, openSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { tryAgain } from './descriptor.ts'
import { rawSys, sys, sysError, sysOn } from './sys.ts'

const AF_UNIX = 1
const SOCK_STREAM_FLAGS = 1 | 0o2000000 | 0o4000
const SOCK_FLAGS = 0o2000000 | 0o4000
const SOL_SOCKET = 1
const SO_PEERCRED = 17
const SHUT_WR = 1
const ECONNABORTED = -103

/**
 * Runs `use` with a name for `path` that fits a socket address (107 bytes) however long the path is. The name is good
 * only while `use` runs.
 */
function withShortPath<T>(path: string, use: (short: string) => T): T {
  const directory = openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    return use(`/proc/self/fd/${directory}/${basename(path)}`)
  } finally {
    closeSync(directory)
  }
}

/** Listens on a new socket file. @throws LinuxError EADDRINUSE when there is a file of that name */
export function listenUnix(path: string, backlog = 512): number {
  const fd = sys('socket', AF_UNIX, SOCK_STREAM_FLAGS, 0)
  try {
    withShortPath(path, (short) => {
      const address = Buffer.alloc(2 + short.length + 1)
      address.writeUInt16LE(AF_UNIX, 0)
      address.write(short, 2, 'latin1')
      sysOn(path, 'bind', fd, address, address.length)
    })
    sysOn(path, 'listen', fd, backlog)
    return fd
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

/** The next connection, or undefined when none waits. */
export function acceptUnix(fd: number): number | undefined {
  const accepted = rawSys('accept4', fd, null, null, SOCK_FLAGS)
  if (accepted === tryAgain || accepted === ECONNABORTED) return undefined
  if (accepted < 0) throw sysError(accepted, 'accept4')
  return accepted
}

/** The other side reads the end once it has read what was sent; what it sends can still be read. */
export const endWriting = (fd: number): void => {
  // ENOTCONN: it has gone already.
  rawSys('shutdown', fd, SHUT_WR)
}

/** The user id of the process that connected. */
export function peerUserId(fd: number): number {
  const credentials = Buffer.alloc(12)
  const length = Buffer.alloc(4)
  length.writeUInt32LE(12)
  sys('getsockopt', fd, SOL_SOCKET, SO_PEERCRED, credentials, length)
  return credentials.readUInt32LE(4)
}
