/** The unix socket on which a runtime hands over the master of a container's terminal (SCM_RIGHTS), which Node cannot receive. */
import { chmodSync, closeSync, unlinkSync, writeSync } from 'node:fs'
import { RuntimeError } from '#proto/errors.ts'
import { LinuxError } from './errno.ts'
import { makePipe } from './pipes.ts'
import { addr, keep, rawSys, sys, sysAsync, sysError, sysOn } from './sys.ts'

export interface ConsoleSocket {
  /**
   * Waits for one runtime to connect and send one terminal master, which comes close-on-exec. Throws deadline-exceeded after
   * `timeoutMs`, cancelled when `signal` aborts or the socket is closed meanwhile. One call at a time.
   */
  receive(timeoutMs?: number, signal?: AbortSignal): Promise<number>
  /** Closes the socket and removes its file. Idempotent. */
  close(): void
}

const AF_UNIX = 1
const SOCK_STREAM = 1
const SOCK_NONBLOCK_CLOEXEC = 0x800 | 0x80000
const SOL_SOCKET = 1
const SCM_RIGHTS = 1
const MSG_CMSG_CLOEXEC = 0x40000000
const POLLIN = 1
const TIOCGPTN = 0x80045430
const MAX_SOCKET_PATH = 107
const CMSG_HEADER = 16

const listen = (path: string): number => {
  const address = Buffer.alloc(2 + MAX_SOCKET_PATH + 1)
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH) throw new LinuxError('ENAMETOOLONG', 'bind', path)
  address.writeUInt16LE(AF_UNIX, 0)
  address.write(path, 2)
  const socket = sys('socket', AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK_CLOEXEC, 0)
  try {
    sysOn(path, 'bind', socket, address, address.length)
    // Nobody can connect before listen, so the mode is right from the first moment.
    chmodSync(path, 0o600)
    sysOn(path, 'listen', socket, 1)
    return socket
  } catch (error) {
    closeSync(socket)
    throw error
  }
}

/** One message with room for exactly one descriptor; the kernel drops any more. Undefined when the other side hung up. */
export const receiveDescriptor = (connection: number): number | undefined => {
  const name = Buffer.alloc(4096)
  const control = Buffer.alloc(CMSG_HEADER + 8)
  const vector = Buffer.alloc(16)
  vector.writeBigUInt64LE(addr(name), 0)
  vector.writeBigUInt64LE(BigInt(name.length), 8)
  const header = Buffer.alloc(56)
  header.writeBigUInt64LE(addr(vector), 16)
  header.writeBigUInt64LE(1n, 24)
  header.writeBigUInt64LE(addr(control), 32)
  // Without the padding, or a second descriptor would fit in.
  header.writeBigUInt64LE(BigInt(CMSG_HEADER + 4), 40)
  sys('recvmsg', connection, header, MSG_CMSG_CLOEXEC)
  keep(name, control, vector)
  if (header.readBigUInt64LE(40) < CMSG_HEADER + 4) return undefined
  if (control.readInt32LE(8) !== SOL_SOCKET || control.readInt32LE(12) !== SCM_RIGHTS) return undefined
  return control.readInt32LE(CMSG_HEADER)
}

const checkedTerminal = (fd: number | undefined, path: string): number => {
  if (fd === undefined) throw new LinuxError('EBADMSG', 'recvmsg', path, 'no descriptor came')
  if (rawSys('ioctl', fd, TIOCGPTN, Buffer.alloc(4)) >= 0) return fd
  closeSync(fd)
  throw new LinuxError('ENOTTY', 'recvmsg', path, 'the descriptor is not the master of a terminal')
}

/** Waits on a pool thread until `fd` is readable, or `wake` is: then false. */
const readable = async (fd: number, wake: number): Promise<boolean> => {
  const polled = Buffer.alloc(16)
  polled.writeInt32LE(fd, 0)
  polled.writeInt16LE(POLLIN, 4)
  polled.writeInt32LE(wake, 8)
  polled.writeInt16LE(POLLIN, 12)
  await sysAsync('ppoll', polled, 2, null, null, 8)
  return polled.readInt16LE(14) === 0
}

class ListeningConsoleSocket implements ConsoleSocket {
  readonly #path: string
  readonly #socket: number
  #wake: (() => void) | undefined
  #closed = false

  constructor(path: string) {
    this.#path = path
    this.#socket = listen(path)
  }

  async receive(timeoutMs?: number, signal?: AbortSignal): Promise<number> {
    if (this.#closed || this.#wake !== undefined)
      throw new LinuxError('EBADF', 'accept4', this.#path, 'closed or in use')
    signal?.throwIfAborted()
    // A pool thread cannot be interrupted, but it wakes up when a byte comes through this pipe.
    const wake = makePipe()
    let stop: RuntimeError | undefined
    const interrupt = (reason: RuntimeError) => {
      if (stop === undefined) writeSync(wake.write, '!')
      stop ??= reason
    }
    const cancelled = (cause?: unknown) =>
      interrupt(new RuntimeError('cancelled', `receiving on "${this.#path}" was cancelled`, { cause }))
    const aborted = () => cancelled(signal?.reason)
    this.#wake = cancelled
    signal?.addEventListener('abort', aborted)
    const late = new RuntimeError('deadline-exceeded', `no terminal came on "${this.#path}" in ${timeoutMs} ms`)
    const timer = timeoutMs === undefined ? undefined : setTimeout(interrupt, Math.min(timeoutMs, 2 ** 31 - 1), late)
    const ready = async (fd: number) => {
      if (!(await readable(fd, wake.read))) throw stop ?? late
    }
    try {
      await ready(this.#socket)
      return await this.#accept(ready)
    } finally {
      clearTimeout(timer)
      signal?.removeEventListener('abort', aborted)
      this.#wake = undefined
      closeSync(wake.read)
      closeSync(wake.write)
      if (this.#closed) closeSync(this.#socket)
    }
  }

  async #accept(ready: (fd: number) => Promise<void>): Promise<number> {
    const connection = rawSys('accept4', this.#socket, null, null, SOCK_NONBLOCK_CLOEXEC)
    if (connection < 0) throw sysError(connection, 'accept4', this.#path)
    try {
      await ready(connection)
      return checkedTerminal(receiveDescriptor(connection), this.#path)
    } finally {
      closeSync(connection)
    }
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    try {
      unlinkSync(this.#path)
    } catch {
      // Its directory may be gone already.
    }
    // A thread may still poll the socket: then the end of `receive` closes it.
    if (this.#wake === undefined) closeSync(this.#socket)
    else this.#wake()
  }
}

/** Listens at `path` (created, mode 0600, at most 107 bytes long). */
export const listenConsoleSocket = (path: string): ConsoleSocket => new ListeningConsoleSocket(path)
