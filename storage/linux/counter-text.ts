/** The texts in which the kernel tells counters: lines of a name and a number, single numbers, pressure. Whatever is not there is undefined. */

/** Limits of version 1 that mean none: the largest multiple of the page size below 2^63. */
const UNLIMITED = 2 ** 60

export const isLimited = (value: number | undefined): boolean => value !== undefined && value < UNLIMITED

/** A number alone in its file, which above 2^53 has lost its last digits; "max" and what version 1 has for it are undefined. */
export const numberIn = (text: string | undefined): number | undefined => {
  if (text === undefined) return undefined
  const value = Number.parseInt(text, 10)
  return Number.isNaN(value) || value < 0 || value >= UNLIMITED ? undefined : value
}

/** The number behind a name at the beginning of a line. */
export const fieldIn = (text: string | undefined, name: string): number | undefined => {
  if (text === undefined) return undefined
  const key = `${name} `
  for (let at = text.indexOf(key); at >= 0; at = text.indexOf(key, at + 1)) {
    if (at > 0 && text.charCodeAt(at - 1) !== 10) continue
    const value = Number.parseInt(text.slice(at + key.length, at + key.length + 20), 10)
    return Number.isNaN(value) ? undefined : value
  }
  return undefined
}

/** Of one kind of pressure: the share of time, in percent, of the last 10, 60 and 300 s, and the sum. */
export interface Stall {
  readonly avg10: number
  readonly avg60: number
  readonly avg300: number
  /** Microseconds. */
  readonly total: number
}

/** Time in which some processes, or all of them at once, waited. Kernels before 5.13 have no `full` for the processor. */
export interface Pressure {
  readonly some: Stall
  readonly full: Stall | undefined
}

const STALL = /^(some|full) avg10=([\d.]+) avg60=([\d.]+) avg300=([\d.]+) total=(\d+)$/gm

export const pressureIn = (text: string | undefined): Pressure | undefined => {
  const found: { some?: Stall; full?: Stall } = {}
  for (const [, kind, avg10, avg60, avg300, total] of text?.matchAll(STALL) ?? []) {
    found[kind === 'some' ? 'some' : 'full'] = {
      avg10: Number(avg10),
      avg60: Number(avg60),
      avg300: Number(avg300),
      total: Number(total),
    }
  }
  return found.some && { some: found.some, full: found.full }
}
