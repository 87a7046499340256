/** A real pipe for a program's output, of which the first bytes are kept and the rest is read and dropped. */
import { closeSync } from 'node:fs'
import { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { makePipe } from './pipes.ts'

const DRAIN_ROUND_MS = 100
const DRAIN_ROUNDS = 50

export class OutputPipe {
  readonly #socket: Socket
  readonly #chunks: Buffer[] = []
  #writeEnd: number | undefined
  /** Bytes that came, kept or not. */
  seen = 0
  /** Resolves when nobody holds the write end any more, or reading was given up. */
  readonly ended: Promise<void>

  constructor(maxBytes: number) {
    const { read, write } = makePipe()
    this.#writeEnd = write
    this.#socket = new Socket({ fd: read, readable: true, writable: false })
    this.#socket.on('data', (chunk: Buffer) => {
      if (this.seen < maxBytes) this.#chunks.push(chunk.subarray(0, maxBytes - this.seen))
      this.seen += chunk.length
    })
    this.#socket.on('error', () => {})
    this.ended = new Promise((resolve) => this.#socket.once('close', () => resolve()))
  }

  /** For the program; to be closed here once it has it. */
  get writeEnd(): number {
    if (this.#writeEnd === undefined) throw new Error('the write end is closed')
    return this.#writeEnd
  }

  closeWriteEnd(): void {
    if (this.#writeEnd !== undefined) closeSync(this.#writeEnd)
    this.#writeEnd = undefined
  }

  bytes(): Buffer {
    return Buffer.concat(this.#chunks)
  }

  /** Read no further. */
  close(): void {
    this.closeWriteEnd()
    this.#socket.destroy()
  }
}

/**
 * Read on until the pipes' end, but not for ever: what a program left behind may hold them open. Once nothing has come for two
 * rounds, all that the program itself wrote has been read; and after five seconds reading ends whatever comes.
 */
export const drainPipes = async (pipes: readonly OutputPipe[]): Promise<void> => {
  const giveUp = new AbortController()
  const all = Promise.all(pipes.map(({ ended }) => ended)).then(() => giveUp.abort())
  try {
    const seen = () => pipes.reduce((sum, pipe) => sum + pipe.seen, 0)
    for (let round = 0, quiet = 0; round < DRAIN_ROUNDS && quiet < 2; round++) {
      const before = seen()
      await delay(DRAIN_ROUND_MS, undefined, { signal: giveUp.signal })
      quiet = seen() > before ? 0 : quiet + 1
    }
  } catch (error) {
    if (!giveUp.signal.aborted) throw error
  }
  for (const pipe of pipes) pipe.close()
  await all
}
