/** Bytes of a pipe → the lines in them. Each byte is looked at once, however long a line is. */

const NEWLINE = 10

export class Lines {
  readonly #maxBytes: number
  #parts: Buffer[] = []
  #bytes = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** The lines that are complete now, without their ends. Throws when one is longer than it may be. */
  *take(bytes: Buffer): Generator<string> {
    let rest = bytes
    for (let end = rest.indexOf(NEWLINE); end >= 0; end = rest.indexOf(NEWLINE)) {
      const line = Buffer.concat([...this.#parts, rest.subarray(0, end)]).toString()
      this.#parts = []
      this.#bytes = 0
      rest = rest.subarray(end + 1)
      yield line
    }
    if (rest.length === 0) return
    this.#parts.push(rest)
    this.#bytes += rest.length
    if (this.#bytes > this.#maxBytes) throw new Error(`a line has more than ${this.#maxBytes} bytes`)
  }
}
