/** A blob that may still be arriving, read from its file once and hashed as it is read. In the unpacking process. */
import { closeSync, readSync } from 'node:fs'
import { setImmediate as turn } from 'node:timers/promises'
import { RuntimeError } from '#proto/errors.ts'
import { algorithmOf, type Digest, digestStream } from '../digest.ts'

const CHUNK = 256 * 1024
/** After so many bytes others get a turn, to say that the rest is not wanted. */
const TURN_BYTES = 16 * 2 ** 20

export class FollowedBlob implements Disposable {
  readonly #fd: number
  readonly #size: number
  readonly #hash
  #available: number
  #position = 0
  #wake: (() => void) | undefined
  #isCancelled = false

  /** Takes the open file over. */
  constructor(fd: number, { size, available, digest }: { size: number; available: number; digest: Digest }) {
    this.#fd = fd
    this.#size = size
    this.#available = available
    this.#hash = digestStream(algorithmOf(digest))
  }

  reached(bytes: number): void {
    this.#available = Math.max(this.#available, bytes)
    this.#wake?.()
  }

  /** Nobody wants the rest: who reads gets an error. */
  cancel(): void {
    this.#isCancelled = true
    this.#wake?.()
  }

  /** The next bytes, undefined at the end; waits for what has not come. The buffer is the caller's. */
  async next(): Promise<Buffer | undefined> {
    if (this.#position % TURN_BYTES < CHUNK) await turn()
    while (this.#position >= this.#available && this.#position < this.#size && !this.#isCancelled)
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    if (this.#isCancelled) throw new RuntimeError('cancelled', 'Unpacking was cancelled')
    return this.#position >= this.#size ? undefined : this.#read()
  }

  /** Reads what is left, and returns the digest of all. */
  async digest(): Promise<Digest> {
    while ((await this.next()) !== undefined);
    return this.#hash.digest()
  }

  #read(): Buffer {
    const bytes = Buffer.allocUnsafeSlow(Math.min(CHUNK, this.#available - this.#position))
    const count = readSync(this.#fd, bytes, 0, bytes.length, this.#position)
    if (count === 0) throw new Error(`the file of the blob ends at ${this.#position} of ${this.#size} bytes`)
    this.#position += count
    const read = bytes.subarray(0, count)
    this.#hash.update(read)
    return read
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }
}
