/** The texts in which the kernel tells counters: lines of a name and a number, single numbers. Whatever is not there is undefined. */

/** Limits of version 1 that mean none: the largest multiple of the page size below 2^63. */
const UNLIMITED = 2 ** 60

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
