/** Real pipes. Node's own are socketpairs, and a container cannot open /dev/stdout on a socket. */
import { rawSys, sys } from './sys.ts'

export interface Pipe {
  read: number
  write: number
}

const O_CLOEXEC = 0x80000
const O_NONBLOCK = 0x800
const FD_CLOEXEC = 1
const F_SETFD = 2
const MAX_FD = 0xffffffff
const CLOSE_RANGE_CLOEXEC = 4
const F_GETFL = 3
const F_SETFL = 4
const F_SETPIPE_SZ = 1031

/** A pipe whose ends are both close-on-exec and blocking. */
export const makePipe = (): Pipe => {
  const fds = Buffer.alloc(8)
  sys('pipe2', fds, O_CLOEXEC)
  return { read: fds.readInt32LE(0), write: fds.readInt32LE(4) }
}

/** Says whether a descriptor closes when this process, or a child of it, executes a program. */
export const setCloexec = (fd: number, on: boolean): void => {
  sys('fcntl', fd, F_SETFD, on ? FD_CLOEXEC : 0)
}

/**
 * Makes every open descriptor from `first` (3) on close-on-exec. Node's own are; those a careless parent left open would otherwise reach
 * every program started from here. Call it once, when the process starts.
 */
export const setAllCloexec = (first = 3): void => {
  sys('close_range', first, MAX_FD, CLOSE_RANGE_CLOEXEC)
}

/** Makes room for more than the usual 64 KiB in a pipe, as far as the kernel allows this user. */
export const growPipe = (fd: number, bytes: number): void => {
  // What is refused costs speed only.
  rawSys('fcntl', fd, F_SETPIPE_SZ, bytes)
}

/** Says whether reads and writes return EAGAIN instead of waiting. Acts on the open file, so on all descriptors that share it. */
export const setNonblock = (fd: number, on: boolean): void => {
  const flags = sys('fcntl', fd, F_GETFL, 0)
  sys('fcntl', fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK)
}
