/** A time as the log file has it: "2016-10-06T00:17:09.669794202Z", always UTC, always nine digits. Pure. */

export const timestampBytes = 30

const SECONDS_BYTES = 20
const ZERO = 48

/** Writes times into buffers. Remembers the last second, so that most calls write nine digits only. */
export class Timestamp {
  #second = Number.NaN
  readonly #text = Buffer.alloc(timestampBytes, '0000-00-00T00:00:00.000000000Z')

  /** The bytes of a time; good until the next call. */
  of(seconds: number, nanoseconds: number): Buffer {
    if (seconds !== this.#second) this.#setSecond(seconds)
    let rest = nanoseconds
    for (let place = SECONDS_BYTES + 8; place >= SECONDS_BYTES; place--) {
      this.#text[place] = ZERO + (rest % 10)
      rest = Math.floor(rest / 10)
    }
    return this.#text
  }

  #setSecond(seconds: number): void {
    this.#second = seconds
    this.#text.write(new Date(seconds * 1000).toISOString().slice(0, SECONDS_BYTES - 1), 0, 'latin1')
  }
}
