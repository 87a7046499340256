/** The connection to a monitor's control socket, up to its welcome. */
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { isErrno } from '#linux/errno.ts'
import { encodeMessage, type Frame, FrameReader, frameTypes, monitorFiles, protocolVersion } from '#proto/conmon.ts'
import { RuntimeError } from '#proto/errors.ts'
import { decode, Reply, Welcome } from './messages.ts'

export interface Greeted {
  readonly socket: Socket
  readonly welcome: Welcome
  readonly frames: FrameReader
  /** What came right behind the welcome. */
  readonly early: readonly Frame[]
}

/** @throws RuntimeError unavailable when nobody listens there, permission-denied for a wrong cookie */
export async function greetMonitor(dir: string, cookie: string, signal: AbortSignal): Promise<Greeted> {
  try {
    const socket = await connectTo(dir, signal)
    try {
      socket.write(encodeMessage('hello', { protocol: protocolVersion, cookie }))
      return await welcomeFrom(socket, signal)
    } catch (error) {
      socket.destroy()
      throw error
    }
  } catch (cause) {
    // One that is being killed still takes connections, for a moment.
    if (!isErrno(cause, 'ENOENT', 'ECONNREFUSED', 'EPIPE', 'ECONNRESET')) throw cause
    throw new RuntimeError('unavailable', `No monitor listens in "${dir}"`, { cause })
  }
}

/** Through the directory's descriptor: a socket address holds 107 bytes only. */
async function connectTo(dir: string, signal: AbortSignal): Promise<Socket> {
  signal.throwIfAborted()
  const directory = await open(dir, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    const socket = connect(`/proc/self/fd/${directory.fd}/${monitorFiles.socket}`)
    // Also when it breaks while nobody waits for anything of it.
    socket.on('error', () => {})
    try {
      return await settled(socket, signal, (resolve) => socket.once('connect', () => resolve(socket)))
    } catch (error) {
      // It may be connected by now, and nobody knows it.
      socket.destroy()
      throw error
    }
  } finally {
    await directory.close()
  }
}

function welcomeFrom(socket: Socket, signal: AbortSignal): Promise<Greeted> {
  const frames = new FrameReader()
  return settled(socket, signal, (resolve, reject) => {
    const take = (bytes: Buffer) => {
      try {
        const [first, ...early] = frames.read(bytes)
        if (first === undefined) return
        socket.off('data', take)
        socket.pause()
        resolve({ socket, welcome: welcome(first), frames, early })
      } catch (error) {
        reject(error)
      }
    }
    socket.on('data', take)
  })
}

function welcome({ type, payload }: Frame): Welcome {
  if (type === frameTypes.welcome) return decode(Welcome, payload, 'welcome')
  const reply = decode(Reply, payload, 'welcome')
  if (reply.reply === 'failed') throw new RuntimeError(reply.failure.kind, reply.failure.message)
  throw new RuntimeError('internal', `Monitor answered a hello with "${reply.reply}"`)
}

/** What `begin` resolves with, unless the socket has failed, fails or closes or the signal aborts before. Leaves no listener behind. */
function settled<T>(
  socket: Socket,
  signal: AbortSignal,
  begin: (resolve: (value: T) => void, reject: (error: unknown) => void) => void,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const aborted = () => finish(() => reject(signal.reason))
    const failed = (error: Error) => finish(() => reject(error))
    const closed = () =>
      finish(() => reject(new RuntimeError('unavailable', 'Monitor closed the connection before it was welcomed')))
    const finish = (settle: () => void) => {
      signal.removeEventListener('abort', aborted)
      socket.off('error', failed).off('close', closed)
      settle()
    }
    if (socket.destroyed) {
      if (socket.errored) failed(socket.errored)
      else closed()
      return
    }
    // A signal tells nobody who listens after it.
    if (signal.aborted) return aborted()
    signal.addEventListener('abort', aborted, { once: true })
    socket.on('error', failed).on('close', closed)
    begin(
      (value) => finish(() => resolve(value)),
      (error) => finish(() => reject(error)),
    )
  })
}
