/**
 * The sizes of a client's terminal: from the JSON on its resize channel to a sequence in which only the newest matters.
 */
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import * as z from 'zod'
import type { TerminalSize } from './session.ts'

/** The kernel's winsize holds 16 bits. */
const MAX_CELLS = 65_535
const cells = z
  .int()
  .min(1)
  .transform((value) => Math.min(value, MAX_CELLS))
const Size = z.object({ Width: cells, Height: cells })

/** The longest text that is taken for a size. */
const MAX_TEXT = 1_024

/** Pure: a size, or nothing for anything that is none. Clients send 0 × 0 when they do not know. */
export const parseSize = (text: string): TerminalSize | undefined => {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  const parsed = Size.safeParse(value)
  return parsed.success ? { width: parsed.data.Width, height: parsed.data.Height } : undefined
}

/** Finds the objects in text that arrives in any pieces. They are flat, so each ends at the next brace. */
export class SizeReader {
  #text = ''

  push(chunk: Buffer): TerminalSize[] {
    const pieces = (this.#text + chunk.toString('latin1')).split('}')
    this.#text = (pieces.pop() ?? '').slice(-MAX_TEXT)
    return pieces.flatMap((piece) => parseSize(`${piece.slice(-MAX_TEXT)}}`) ?? [])
  }
}

/** Each size costs a system call and a signal to the container's processes: this many milliseconds lie between two. */
const PACE_MS = 20

/** One reader; a size that was not yet taken is replaced by a newer one. */
export class TerminalSizes implements AsyncIterable<TerminalSize> {
  #newest: TerminalSize | undefined
  #ended = false
  #wake = () => {}

  set(size: TerminalSize): void {
    this.#newest = size
    this.#wake()
  }

  end(): void {
    this.#ended = true
    this.#wake()
  }

  /** Takes all sizes of a resize channel. It is never full: sizes are replaced, not kept. */
  follow(channel: Readable): void {
    const reader = new SizeReader()
    channel.on('data', (chunk: Buffer) => {
      const size = reader.push(chunk).at(-1)
      if (size) this.set(size)
    })
    channel.on('error', () => {})
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<TerminalSize, void, undefined> {
    while (!this.#ended) {
      if (this.#newest === undefined) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
        continue
      }
      const size = this.#newest
      this.#newest = undefined
      yield size
      await sleep(PACE_MS)
    }
  }
}
