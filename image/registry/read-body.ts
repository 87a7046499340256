/** The body of an answer in large pieces: small ones of the network are gathered in two buffers, while one is read the other is filled. */

import type { IncomingMessage } from 'node:http'
import { READ_BYTES } from './read-in-place.ts'
import type { Timing } from './timing.ts'

/** What may be gathered while the reader is busy with the piece before. */
const MOST_GATHERED = 256 * 1024
const LEAST_BUFFER = 16 * 1024

/**
 * Each piece is the reader's until it asks for the next one; whoever keeps it copies it.
 * @throws ETIMEDOUT when the body stalls; Node's own errors when it breaks off, after what had come
 */
export async function* readBody(
  incoming: IncomingMessage,
  timing: Timing,
): AsyncGenerator<Uint8Array, void, undefined> {
  const body = new Body(incoming)
  let waitedMs = 0
  let received = 0
  try {
    for (;;) {
      const began = performance.now()
      await body.arrival(Math.max(1, timing.idleMs - waitedMs))
      const piece = body.take()
      if (piece === undefined) return
      waitedMs += performance.now() - began
      received += piece.length
      if (received >= timing.leastBytes) {
        waitedMs = 0
        received = 0
      }
      yield piece
    }
  } finally {
    body.leave()
  }
}

class Body {
  readonly #incoming: IncomingMessage
  #filling: Buffer
  #length = 0
  #spare: Buffer | undefined
  #end: { readonly error?: unknown } | undefined
  #wake: (() => void) | undefined

  constructor(incoming: IncomingMessage) {
    this.#incoming = incoming
    this.#filling = Buffer.allocUnsafeSlow(bufferSize(incoming))
    incoming.on('data', (bytes: Buffer) => this.#gather(bytes))
    incoming.on('end', () => this.#finish({}))
    incoming.on('error', (error) => this.#finish({ error }))
    incoming.on('close', () => this.#finish({ error: cutShort() }))
  }

  /** Resolves when there is something to take, or nothing will come any more. */
  async arrival(ms: number): Promise<void> {
    if (this.#length > 0 || this.#end !== undefined) return
    const timer = setTimeout(() => this.#incoming.destroy(stalled()), ms)
    await new Promise<void>((resolve) => {
      this.#wake = resolve
    })
    clearTimeout(timer)
  }

  /** What has come since the last time; undefined at the end. */
  take(): Buffer | undefined {
    if (this.#length === 0) {
      if (this.#end !== undefined && 'error' in this.#end) throw this.#end.error
      return undefined
    }
    const full = this.#filling
    const piece = full.subarray(0, this.#length)
    this.#filling = this.#spare ?? Buffer.allocUnsafeSlow(full.length)
    this.#spare = full
    this.#length = 0
    this.#incoming.resume()
    return piece
  }

  leave(): void {
    this.#incoming.destroy()
  }

  #gather(bytes: Buffer): void {
    const length = this.#length + bytes.length
    if (length > this.#filling.length) this.#grow(length)
    bytes.copy(this.#filling, this.#length)
    giveBack(bytes)
    this.#length = length
    if (length >= MOST_GATHERED) this.#incoming.pause()
    this.#tell()
  }

  #grow(least: number): void {
    const larger = Buffer.allocUnsafeSlow(
      Math.max(least, Math.min(2 * this.#filling.length, MOST_GATHERED + READ_BYTES)),
    )
    this.#filling.copy(larger, 0, 0, this.#length)
    this.#filling = larger
  }

  #finish(end: { readonly error?: unknown }): void {
    this.#end ??= end
    this.#tell()
  }

  #tell(): void {
    this.#wake?.()
    this.#wake = undefined
  }
}

/**
 * The parser of answers makes a copy for each event; the memory of the last one is ready for the next when it is given back at once, and V8 has
 * nothing to collect.
 */
const giveBack = ({ buffer, byteLength }: Buffer): void => {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0)
}

/** What the sender announces is only an announcement. */
const bufferSize = ({ headers }: IncomingMessage): number => {
  const announced = Number(headers['content-length'] ?? 0) || LEAST_BUFFER
  return Math.min(Math.max(announced, LEAST_BUFFER), MOST_GATHERED + READ_BYTES)
}

const cutShort = (): Error =>
  Object.assign(new Error('the answer ended too early'), { code: 'ERR_STREAM_PREMATURE_CLOSE' })

const stalled = (): Error => Object.assign(new Error('the answer stalled'), { code: 'ETIMEDOUT' })
