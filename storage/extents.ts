/** Which bytes of a file are there, and how that is written down. */

/** Of bytes; the last one is before `end`. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

export class Extents {
  /** In order; they neither touch nor overlap. */
  #ranges: ByteRange[] = []

  get ranges(): readonly ByteRange[] {
    return this.#ranges
  }

  /** How many bytes there are from the beginning on without a gap. */
  get prefix(): number {
    const [first] = this.#ranges
    return first?.start === 0 ? first.end : 0
  }

  get bytes(): number {
    return this.#ranges.reduce((sum, { start, end }) => sum + end - start, 0)
  }

  add({ start, end }: ByteRange): void {
    if (start >= end) return
    const apart = this.#ranges.filter((range) => range.end < start || range.start > end)
    const joined = this.#ranges.filter((range) => range.end >= start && range.start <= end)
    const whole = {
      start: Math.min(start, ...joined.map((range) => range.start)),
      end: Math.max(end, ...joined.map((range) => range.end)),
    }
    this.#ranges = [...apart, whole].sort((a, b) => a.start - b.start)
  }

  /** What is missing of a file of `size` bytes, in order. */
  gaps(size: number): ByteRange[] {
    const gaps: ByteRange[] = []
    let at = 0
    for (const { start, end } of [...this.#ranges, { start: size, end: size }]) {
      if (start > at) gaps.push({ start: at, end: Math.min(start, size) })
      at = Math.max(at, end)
    }
    return gaps.filter(({ start }) => start < size)
  }
}

/** One line for each range. */
export const extentLines = ({ ranges }: Extents): string => ranges.map(({ start, end }) => `${start}-${end}\n`).join('')

/** What lines say, up to the file's length. A line that was cut or makes no sense says nothing. */
export const parseExtents = (text: string, length: number): Extents => {
  const extents = new Extents()
  for (const [, start, end] of text.matchAll(/^(\d{1,15})-(\d{1,15})\n/gm))
    extents.add({ start: Number(start), end: Math.min(Number(end), length) })
  return extents
}
