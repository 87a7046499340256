/**
 * The masking of WebSocket payloads (RFC 6455 §5.3), four bytes at a time. The bundle gives it to `ws` in the place of the native
 * package that `ws` looks for: the daemon runs without optimising compilers, and byte by byte everything a client sends cost five times as much.
 */

const WORD = 4

/** `buffer[i] ^= mask[i % 4]`, in place. @param mask four bytes */
export function unmask(buffer: Uint8Array, mask: Uint8Array): void {
  const lead = Math.min((WORD - (buffer.byteOffset % WORD)) % WORD, buffer.length)
  const count = (buffer.length - lead) >> 2
  // Without a whole word there may be no aligned place either.
  const words = count > 0 ? new Int32Array(buffer.buffer, buffer.byteOffset + lead, count) : new Int32Array()
  const byte = (index: number) => mask[(lead + index) % WORD] ?? 0
  // Int32Array has the byte order of the machine, which is little-endian wherever Node runs.
  const word = byte(0) | (byte(1) << 8) | (byte(2) << 16) | (byte(3) << 24)
  for (let index = 0; index < count; index++) words[index] = (words[index] ?? 0) ^ word
  for (let index = 0; index < lead; index++) flip(buffer, mask, index)
  for (let index = lead + WORD * count; index < buffer.length; index++) flip(buffer, mask, index)
}

/** Writes `length` masked bytes of `source` to `output` from `offset` on. */
export function mask(source: Uint8Array, key: Uint8Array, output: Uint8Array, offset: number, length: number): void {
  const target = output.subarray(offset, offset + length)
  target.set(source.subarray(0, length))
  unmask(target, key)
}

const flip = (buffer: Uint8Array, mask: Uint8Array, index: number): void => {
  buffer[index] = (buffer[index] ?? 0) ^ (mask[index % WORD] ?? 0)
}
