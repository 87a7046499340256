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
    this.#room(HEAD_BYTES)
    this.#varint(field * 8 + VARINT)
    this.#varint(value)
  }

  /** Nanoseconds since 1970, given in milliseconds. */
  time(field: number, ms: number): void {
    if (this.#time?.ms !== ms) this.#time = { ms, bytes: bigVarint(BigInt(Math.round(ms)) * 1_000_000n) }
    this.#room(HEAD_BYTES)
    this.#varint(field * 8 + VARINT)
    this.#copy(this.#time.bytes)
  }

  double(field: number, value: number): void {
    if (value === 0) return
    this.#room(HEAD_BYTES)
    this.#varint(field * 8 + FIXED64)
    this.#at = this.#buffer.writeDoubleLE(value, this.#at)
  }

  text(field: number, value: string): void {
    if (value === '') return
    this.bytes(field, Buffer.from(value))
  }

  bytes(field: number, value: Uint8Array): void {
    this.#room(HEAD_BYTES + value.length)
    this.#varint(field * 8 + LENGTH)
    this.#varint(value.length)
    this.#copy(value)
  }

  /** Fields that are encoded already. */
  raw(fields: Uint8Array): void {
    this.#room(fields.length)
    this.#copy(fields)
  }

  /** A UInt64Value, which says that there is a value also when it is 0; nothing for one that is not known. */
  wrapped(field: number, value: number | undefined): void {
    if (value === undefined) return
    this.#room(HEAD_BYTES)
    this.#varint(field * 8 + LENGTH)
    const length = this.#at++
    if (value > 0) {
      this.#buffer[this.#at++] = 8 + VARINT
      this.#varint(value)
    }
    this.#buffer[length] = this.#at - length - 1
  }

  /** A message with the fields that `write` writes. */
  message(field: number, write: () => void): void {
    this.#room(HEAD_BYTES)
    this.#varint(field * 8 + LENGTH)
    const begin = ++this.#at
    write()
    const length = this.#at - begin
    if (length < 0x80) {
      this.#buffer[begin - 1] = length
      return
    }
    // Its length takes more than the one byte that was kept for it.
    const more = lengthOfVarint(length) - 1
    this.#room(more)
    this.#buffer.copyWithin(begin + more, begin, this.#at)
    this.#at = begin - 1
    this.#varint(length)
    this.#at += length
  }

  #varint(value: number): void {
    let rest = value
    while (rest >= 0x80) {
      this.#buffer[this.#at++] = (rest % 0x80) | 0x80
      rest = Math.floor(rest / 0x80)
    }
    this.#buffer[this.#at++] = rest
  }

  #copy(bytes: Uint8Array): void {
    this.#buffer.set(bytes, this.#at)
    this.#at += bytes.length
  }

  #room(bytes: number): void {
    if (this.#at + bytes <= this.#buffer.length) return
    const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#at + bytes))
    this.#buffer.copy(larger, 0, 0, this.#at)
    this.#buffer = larger
  }
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
