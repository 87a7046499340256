/** Sparse maps of GNU tar: which stretches of a file the archive carries. Pure. */
import { BLOCK, number } from './header.ts'
import { refused } from './refused.ts'

/** A stretch of the file that has data. */
export interface Segment {
  readonly offset: number
  readonly length: number
}

/** Offset/length pairs as segments. Throws unless they are in order, apart, inside the file, and add up to the data that follows. */
export const checkedSegments = (pairs: readonly number[], realSize: number, dataSize: number): Segment[] => {
  if (pairs.length % 2 !== 0) throw refused('Archive has a sparse map with an odd number of values')
  const segments: Segment[] = []
  let reached = 0
  let total = 0
  for (let i = 0; i < pairs.length; i += 2) {
    const offset = pairs[i] ?? 0
    const length = pairs[i + 1] ?? 0
    if (offset < reached || length < 0 || offset + length > realSize)
      throw refused('Archive has a sparse map whose stretches overlap or lie outside of the file')
    reached = offset + length
    total += length
    if (length > 0) segments.push({ offset, length })
  }
  if (total !== dataSize) throw refused('Archive has a sparse map that does not add up to the data')
  return segments
}

/** The pairs in an old GNU header (4 at 386) or extension block (21 at 0); an entry that starts with NUL ends the list. */
export const oldGnuPairs = (block: Buffer, at: number, count: number): number[] => {
  const pairs: number[] = []
  for (let i = 0; i < count; i++) {
    const place = at + i * 24
    if (block[place] === 0) break
    pairs.push(number(block, place, 12, 'sparse offset'), number(block, place + 12, 12, 'sparse length'))
  }
  return pairs
}

/** Whether another extension block follows this one. */
export const oldGnuContinues = (block: Buffer, flagAt: 482 | 504): boolean => block[flagAt] !== 0

/** Reads the map at the start of the data (format 1.0): decimal lines, the first one the number of pairs, padded to a block. */
export class MapInData {
  readonly #values: number[] = []
  #line = ''

  /** Takes one block. Returns the pairs once they are complete; the rest of that block is padding. */
  push(block: Buffer): number[] | undefined {
    const lines = (this.#line + block.toString('latin1')).split('\n')
    this.#line = lines.pop() ?? ''
    for (const line of lines) {
      this.#values.push(decimalLine(line))
      const [count = 0] = this.#values
      if (this.#values.length - 1 === count * 2) return this.#values.slice(1)
    }
    if (this.#line.length > 2 * BLOCK) throw refused('Archive has a sparse map that is not made of lines')
    return undefined
  }
}

const decimalLine = (text: string): number => {
  const value = /^[0-9]{1,16}$/.test(text) ? Number(text) : Number.NaN
  if (!Number.isSafeInteger(value)) throw refused('Archive has a sparse map with a line that is not a number')
  return value
}

/** How many bytes of blocks hold `length` bytes. */
export const roundedUp = (length: number): number => Math.ceil(length / BLOCK) * BLOCK
