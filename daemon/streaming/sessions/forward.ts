/** Bytes from a container's stream to a client's and back. Whoever is slow makes the other side wait, never the daemon. */

import type { Readable, Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { releaseChunk } from '../release-chunk.ts'

/** What goes from a container to a client. */
export class Output {
  readonly #source: Readable
  readonly #sink: Writable | undefined
  /** Bytes that came. */
  seen = 0
  /** The source is at its end, or was given up. */
  readonly ended: Promise<void>

  /** @param sink undefined, or gone: what comes is thrown away. Left open at the end. */
  constructor(source: Readable, sink: Writable | undefined) {
    this.#source = source
    this.#sink = sink
    // Also of a source that is at its end already.
    this.ended = finished(source, { writable: false }).catch(() => {})
    // A client that left is told otherwise.
    sink?.on('error', () => {})
    sink?.on('drain', () => source.resume())
    sink?.on('close', () => source.resume())
    source.on('data', (chunk: Buffer) => this.#take(chunk))
  }

  /** The client has not taken what it was given yet. */
  get isStalled(): boolean {
    return this.#sink?.writableNeedDrain === true && !this.#sink.destroyed
  }

  stop(): void {
    this.#source.destroy()
  }

  #take(chunk: Buffer): void {
    this.seen += chunk.length
    const sink = this.#sink
    if (sink === undefined || sink.destroyed || sink.writableEnded) return
    const goesOn = sink.write(chunk, (error) => {
      if (!error) releaseChunk(chunk)
    })
    if (!goesOn) this.#source.pause()
  }
}

const DRAIN_ROUND_MS = 100
const DRAIN_ROUNDS = 50
const QUIET_ROUNDS = 2

/**
 * Until the outputs' end, but not for ever: what a command left in the background may hold them open. Once nothing has come for two
 * rounds all that the command itself wrote has been read, and after fifty rounds reading ends whatever comes. Rounds in which the
 * client is the slow one do not count.
 */
export async function drainOutputs(outputs: readonly Output[], signal: AbortSignal): Promise<void> {
  const over = new AbortController()
  const ended = Promise.all(outputs.map((output) => output.ended)).then(() => over.abort())
  const until = AbortSignal.any([over.signal, signal])
  const seen = () => outputs.reduce((sum, output) => sum + output.seen, 0)
  try {
    for (let round = 0, quiet = 0; round < DRAIN_ROUNDS && quiet < QUIET_ROUNDS; ) {
      const before = seen()
      await delay(DRAIN_ROUND_MS, undefined, { signal: until })
      if (outputs.some((output) => output.isStalled)) continue
      round++
      quiet = seen() > before ? 0 : quiet + 1
    }
  } catch (error) {
    if (!until.aborted) throw error
  }
  for (const output of outputs) output.stop()
  await ended
}

/**
 * What goes from a client to a container.
 * @param to gets the client's half-close as its own end, unless it is a terminal, which has none
 */
export function forwardInput(from: Readable, to: Writable, { isTerminal }: { isTerminal: boolean }): void {
  from.on('error', () => {})
  // Who reads no more must not stop the client, whose other streams may come by the same way.
  to.once('close', () => {
    from.resume()
  })
  from.on('data', (chunk: Buffer) => {
    if (to.destroyed) return
    const goesOn = to.write(chunk, (error) => {
      if (!error) releaseChunk(chunk)
    })
    if (!goesOn) from.pause()
  })
  to.on('drain', () => from.resume())
  if (!isTerminal) from.once('end', () => to.end())
}
