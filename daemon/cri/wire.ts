/**
 * Protobuf written by hand, for answers that are made of thousands of small numbers: with the generated encoder, making objects and
 * encoding them would take several times as long as reading what they say.
 */

const FIRST_BYTES = 64 * 1024
const MOST_KEPT_BYTES = 1024 * 1024
/** Of one field at most, besides its content. */
const HEAD_BYTES = 24
const VARINT = 0
const FIXED64 = 1
const LENGTH = 2

export class Wire {
  #buffer = Buffer.allocUnsafe(FIRST_BYTES)
  #at = 0
  /** The time that was written last: most of an answer is of the same millisecond. */
  #time: { readonly ms: number; readonly bytes: Uint8Array } | undefined

  /** How much was written since the last time it was taken. */
  get length(): number {
    return this.#at
  }

  /** What was written since the last time, as a Buffer of its own. */
  take(): Buffer {
    const taken = Buffer.from(this.#buffer.subarray(0, this.#at))
    this.#at = 0
    if (this.#buffer.length > MOST_KEPT_BYTES) this.#buffer = Buffer.allocUnsafe(FIRST_BYTES)
    return taken
  }

  /** An integer, which must not be negative; none for 0, as proto3 has it. */
  uint(field: number, value: number): void {
    if (value === 0) return
    const buffer = this.#room(HEAD_BYTES)
    this.#at = putVarint(buffer, putVarint(buffer, this.#at, field * 8 + VARINT), value)
  }

  /** Nanoseconds since 1970, given in milliseconds. */
  time(field: number, ms: number): void {
    if (this.#time?.ms !== ms) this.#time = { ms, bytes: bigVarint(BigInt(Math.round(ms)) * 1_000_000n) }
    const { bytes } = this.#time
    const buffer = this.#room(HEAD_BYTES)
    const at = putVarint(buffer, this.#at, field * 8 + VARINT)
    buffer.set(bytes, at)
    this.#at = at + bytes.length
  }

  double(field: number, value: number): void {
    if (value === 0) return
    const buffer = this.#room(HEAD_BYTES)
    this.#at = buffer.writeDoubleLE(value, putVarint(buffer, this.#at, field * 8 + FIXED64))
  }

  text(field: number, value: string): void {
    if (value === '') return
    this.bytes(field, Buffer.from(value))
  }

  bytes(field: number, value: Uint8Array): void {
    const { length } = value
    const buffer = this.#room(HEAD_BYTES + length)
    const at = putVarint(buffer, putVarint(buffer, this.#at, field * 8 + LENGTH), length)
    buffer.set(value, at)
    this.#at = at + length
  }

  /** Fields that are encoded already. */
  raw(fields: Uint8Array): void {
    this.#room(fields.length).set(fields, this.#at)
    this.#at += fields.length
  }

  /** A UInt64Value, which says that there is a value also when it is 0; nothing for one that is not known. */
  wrapped(field: number, value: number | undefined): void {
    if (value === undefined) return
    const buffer = this.#room(HEAD_BYTES)
    const length = putVarint(buffer, this.#at, field * 8 + LENGTH)
    let at = length + 1
    if (value > 0) {
      buffer[at] = 8 + VARINT
      at = putVarint(buffer, at + 1, value)
    }
    buffer[length] = at - length - 1
    this.#at = at
  }

  /** Begins a message, whose fields are then written; what it returns is for `end`. */
  begin(field: number): number {
    const at = putVarint(this.#room(HEAD_BYTES), this.#at, field * 8 + LENGTH) + 1
    this.#at = at
    return at
  }

  end(begin: number): void {
    const length = this.#at - begin
    if (length < 0x80) {
      this.#buffer[begin - 1] = length
      return
    }
    // Its length takes more than the one byte that was kept for it.
    const more = lengthOfVarint(length) - 1
    const buffer = this.#room(more)
    buffer.copyWithin(begin + more, begin, this.#at)
    putVarint(buffer, begin - 1, length)
    this.#at += more
  }

  /** The buffer, with room for so many bytes more. */
  #room(bytes: number): Buffer {
    const buffer = this.#buffer
    const at = this.#at
    if (at + bytes <= buffer.length) return buffer
    const larger = Buffer.allocUnsafe(Math.max(buffer.length * 2, at + bytes))
    buffer.copy(larger, 0, 0, at)
    this.#buffer = larger
    return larger
  }
}

/** Writes a varint and returns where it ends. */
const putVarint = (buffer: Uint8Array, from: number, value: number): number => {
  let at = from
  let rest = value
  // What bit operations can hold is far quicker.
  for (; rest > 0x7fff_ffff; rest = Math.floor(rest / 0x80)) buffer[at++] = (rest % 0x80) | 0x80
  for (; rest >= 0x80; rest >>>= 7) buffer[at++] = (rest & 0x7f) | 0x80
  buffer[at] = rest
  return at + 1
}

const lengthOfVarint = (value: number): number => {
  let length = 1
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) length++
  return length
}

const bigVarint = (value: bigint): Uint8Array => {
  const bytes: number[] = []
  let rest = value
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80)
  bytes.push(Number(rest))
  return Uint8Array.from(bytes)
}
