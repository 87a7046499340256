/** Tells how a layer is compressed by its first bytes; declared media types are the caller's to compare. */

export type Compression = 'gzip' | 'zstd' | 'none'

/** How many bytes `detectCompression` needs to see. */
export const COMPRESSION_MAGIC_LENGTH = 4

const startsWith = (bytes: Uint8Array, ...magic: number[]): boolean => magic.every((byte, at) => bytes[at] === byte)

/** A zstd stream may begin with a skippable frame (0x184D2A50-5F), as zstd:chunked layers can. */
export const detectCompression = (firstBytes: Uint8Array): Compression => {
  if (startsWith(firstBytes, 0x1f, 0x8b)) return 'gzip'
  if (startsWith(firstBytes, 0x28, 0xb5, 0x2f, 0xfd)) return 'zstd'
  const [first = 0] = firstBytes
  if (first >> 4 === 5 && startsWith(firstBytes.subarray(1), 0x2a, 0x4d, 0x18)) return 'zstd'
  return 'none'
}
