/**
 * One forwarded connection: bytes both ways between a client's data stream and a socket in the pod, each direction ending on
 * its own. What fails here is the business of this connection alone.
 */
import type { Duplex, Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { RuntimeError } from '#proto/errors.ts'
import { releaseChunk } from './release-chunk.ts'
import type { StreamBackend } from './session.ts'
import { publicMessage } from './status-text.ts'

export interface ForwardPair {
  port: number
  data: Duplex
  /** Takes one sentence when the port cannot be reached, and is ended in any case. */
  error: Writable
}

/** A port number as text, 1 to 65535; nothing for anything else. */
export const parsePort = (text: string | undefined): number | undefined => {
  if (text === undefined || !/^\d{1,5}$/.test(text)) return undefined
  const port = Number(text)
  return port >= 1 && port <= 65_535 ? port : undefined
}

const connect = async ({ data, port }: ForwardPair, sandboxId: string, backend: StreamBackend): Promise<Duplex> => {
  const leaving = new AbortController()
  const leave = (): void => leaving.abort(new RuntimeError('cancelled', 'The client closed the connection'))
  if (data.destroyed) leave()
  data.once('close', leave)
  try {
    leaving.signal.throwIfAborted()
    const socket = await backend.connect(sandboxId, port, leaving.signal)
    socket.on('error', () => {})
    if (leaving.signal.aborted) socket.destroy()
    leaving.signal.throwIfAborted()
    return socket
  } finally {
    data.off('close', leave)
  }
}

/** As a pipeline does, but the memory of each chunk is given back when it has gone on. */
const pour = async (from: Duplex, to: Duplex): Promise<void> => {
  from.on('data', (chunk: Buffer) => {
    const goesOn = to.write(chunk, (error) => {
      if (!error) releaseChunk(chunk)
    })
    if (!goesOn) from.pause()
  })
  to.on('drain', () => from.resume())
  const all = finished(from, { writable: false }).then(() => to.end())
  await Promise.all([all, finished(to, { readable: false })])
}

/** Resolves when both directions have ended, well or not; nothing is open then. Never rejects. */
export const forwardPort = async (pair: ForwardPair, sandboxId: string, backend: StreamBackend): Promise<void> => {
  const { data, error, port } = pair
  let socket: Duplex
  try {
    socket = await connect(pair, sandboxId, backend)
  } catch (cause) {
    // A reset comes first: clients read the sentence only when the data stream has ended.
    data.destroy()
    error.end(`error forwarding port ${port} to pod ${sandboxId}: ${publicMessage(cause)}`)
    return
  }
  try {
    await Promise.all([pour(data, socket), pour(socket, data)])
  } catch (cause) {
    // A connection that breaks does so for both its ends. A sentence about it would make kubectl give up all the others.
    socket.destroy()
    data.destroy(cause instanceof Error ? cause : new RuntimeError('cancelled', 'The connection broke'))
  }
  error.end()
}
