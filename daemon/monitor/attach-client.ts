/**
 * A connection of its own on which a client sees the container's output and, when it asks for it, is the container's input. Its monitor
 * waits for nobody: who does not read is dropped after 1 MiB. Only the sender of input waits, until the container has read it.
 */
import type { Socket } from 'node:net'
import { Readable, Writable } from 'node:stream'
import { encodeFrame, encodeMessage, type Frame, frameTypes, maxPayloadBytes } from '#proto/conmon.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { ExitRecord } from './exit-record.ts'
import { decode, Event, Reply } from './messages.ts'
import type { Greeted } from './monitor-socket.ts'

export interface AttachWanted {
  readonly stdin: boolean
  readonly stdout: boolean
  readonly stderr: boolean
}

/** How an attachment ended: with the container, because its output was not read, with the monitor, or because `close` was called. */
export type AttachEnd =
  | { readonly why: 'exited'; readonly record: ExitRecord }
  | { readonly why: 'dropped'; readonly message: string }
  | { readonly why: 'lost' }
  | { readonly why: 'closed' }

const replyTimeoutMs = 10_000
const requestId = 1

/**
 * What an attached client holds.
 *
 * - `stdout`, `stderr`: the output from the moment of attaching on; they end when the attachment does. What was not asked for ends at
 *   once. Not reading one of them stops both, and after 1 MiB has piled up in the monitor the attachment ends as `dropped`. A container with
 *   a terminal has `stdout` only.
 * - `stdin`: there when it was asked for. Its writes wait until the container has read. `end()` is the half close: output goes on, the
 *   input is free for another client; with `stdinOnce` the container reads the end of its input.
 * - `ended`: never rejects. Everything that was sent before is in the streams by then: pending as long as one of them is full and not read.
 * - `close()`: detaches. The container goes on; with `stdinOnce` its input ends.
 */
export interface AttachStream {
  readonly stdin: Writable | undefined
  readonly stdout: Readable
  readonly stderr: Readable
  readonly ended: Promise<AttachEnd>
  close(): void
}

/** Attaches on a fresh connection, which it takes over. @throws RuntimeError as the monitor refuses, deadline-exceeded, unavailable */
export async function attachOn(greeted: Greeted, wanted: AttachWanted): Promise<AttachStream> {
  const attachment = new Attachment(greeted, wanted)
  try {
    await attachment.accepted
    return attachment
  } catch (error) {
    attachment.close()
    throw error
  }
}

class Attachment implements AttachStream {
  readonly stdin: Writable | undefined
  readonly stdout: Readable
  readonly stderr: Readable
  readonly ended: Promise<AttachEnd>
  readonly accepted: Promise<void>
  readonly #socket: Socket
  #end: AttachEnd = { why: 'lost' }
  #accept: (refusal?: RuntimeError) => void = () => {}

  constructor({ socket, frames, early }: Greeted, wanted: AttachWanted) {
    this.#socket = socket
    const outputOf = () => new Readable({ read: () => this.#flow() })
    this.stdout = outputOf()
    this.stderr = outputOf()
    if (!wanted.stdout) this.stdout.push(null)
    if (!wanted.stderr) this.stderr.push(null)
    this.stdin = wanted.stdin ? inputTo(socket) : undefined
    this.accepted = new Promise((resolve, reject) => {
      const late = setTimeout(() => this.#accept(tooLate()), replyTimeoutMs)
      this.#accept = (refusal) => {
        clearTimeout(late)
        if (refusal === undefined) resolve()
        else reject(refusal)
      }
    })
    this.ended = new Promise((resolve) => socket.once('close', () => resolve(this.#closed())))
    // 'close' follows and tells.
    socket.on('error', () => {})
    const take = (bytes: Buffer) => {
      try {
        for (const frame of frames.read(bytes)) this.#received(frame)
      } catch (error) {
        this.#accept(new RuntimeError('internal', `Monitor says what is not understood: ${messageOf(error)}`))
        socket.destroy()
      }
    }
    for (const frame of early) this.#received(frame)
    socket.on('data', take)
    socket.resume()
    socket.write(encodeMessage('request', { id: requestId, request: 'attach', ...wanted }))
  }

  close(): void {
    if (this.#end.why === 'lost') this.#end = { why: 'closed' }
    this.#socket.destroy()
  }

  #received({ type, payload }: Frame): void {
    if (type === frameTypes.stdout) this.#push(this.stdout, payload)
    else if (type === frameTypes.stderr) this.#push(this.stderr, payload)
    else if (type === frameTypes.reply) this.#replied(decode(Reply, payload, 'reply'))
    else if (type === frameTypes.event) this.#told(decode(Event, payload, 'event'))
  }

  #push(stream: Readable, bytes: Buffer): void {
    if (!stream.destroyed && !stream.readableEnded && !stream.push(bytes)) this.#socket.pause()
  }

  /** Called when one of the outputs has room again; the other may be full, but its excess is bounded by one read of the socket. */
  #flow(): void {
    const full = [this.stdout, this.stderr].some((stream) => stream.readableLength >= stream.readableHighWaterMark)
    if (!full) this.#socket.resume()
  }

  #replied(reply: Reply): void {
    if (reply.id !== requestId) return
    this.#accept(reply.reply === 'failed' ? new RuntimeError(reply.failure.kind, reply.failure.message) : undefined)
  }

  #told(event: Event): void {
    if (event.event === 'exited') this.#end = { why: 'exited', record: event.record }
    else if (event.event === 'dropped') this.#end = { why: 'dropped', message: event.message }
  }

  #closed(): AttachEnd {
    this.#accept(new RuntimeError('unavailable', 'Monitor has gone'))
    if (!this.stdout.readableEnded) this.stdout.push(null)
    if (!this.stderr.readableEnded) this.stderr.push(null)
    this.stdin?.destroy()
    return this.#end
  }
}

/** Cut into frames; each write is done when the socket has taken it, and the socket takes no more than the monitor reads. */
function inputTo(socket: Socket): Writable {
  const send = (frame: Buffer, done: (error?: Error | null) => void) => {
    socket.write(frame, (error) => done(error))
  }
  const stdin = new Writable({
    highWaterMark: maxPayloadBytes,
    write(bytes: Buffer, _encoding, done) {
      sendFrom(0)
      function sendFrom(start: number): void {
        const end = Math.min(start + maxPayloadBytes, bytes.length)
        const next = end < bytes.length ? () => sendFrom(end) : done
        send(encodeFrame(frameTypes.stdin, bytes.subarray(start, end)), (error) => (error ? done(error) : next()))
      }
    },
    final(done) {
      send(encodeFrame(frameTypes.stdin, Buffer.alloc(0)), done)
    },
  })
  // A broken connection is told by `ended`; who cares for single writes listens besides.
  stdin.on('error', () => {})
  return stdin
}

const tooLate = (): RuntimeError =>
  new RuntimeError('deadline-exceeded', `Monitor did not answer "attach" in ${replyTimeoutMs} ms`)
