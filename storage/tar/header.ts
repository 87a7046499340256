/**
 * Decodes the 512-byte header of a tar archive: v7, ustar, GNU and star, with octal and base-256 numbers. Pure.
 * Names are bytes: strings here hold one character (0-255) per byte.
 */
import { refused } from './refused.ts'

export const BLOCK = 512

/** What a header block itself says, before pax records and long names are applied. */
export interface TarHeader {
  /** The type flag, one character; NUL for v7 files. */
  readonly type: string
  readonly name: string
  readonly linkName: string
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly size: number
  /** Seconds since 1970; may be negative. */
  readonly mtime: number
  readonly major: number
  readonly minor: number
}

/** Decodes the block at `at`. Returns undefined for a block of zeros. Throws failed-precondition when the block is no header. */
export const decodeHeader = (bytes: Buffer, at = 0): TarHeader | undefined => {
  if (isZeroBlock(bytes, at)) return undefined
  checkSum(bytes, at)
  const dialect = dialectOf(bytes, at)
  return {
    type: String.fromCharCode(bytes[at + 156] ?? 0),
    name: nameOf(bytes, at, dialect),
    linkName: text(bytes, at + 157, 100),
    mode: number(bytes, at + 100, 8, 'mode'),
    uid: number(bytes, at + 108, 8, 'uid'),
    gid: number(bytes, at + 116, 8, 'gid'),
    size: number(bytes, at + 124, 12, 'size'),
    mtime: number(bytes, at + 136, 12, 'mtime'),
    major: dialect === 'v7' ? 0 : number(bytes, at + 329, 8, 'devmajor'),
    minor: dialect === 'v7' ? 0 : number(bytes, at + 337, 8, 'devminor'),
  }
}

type Dialect = 'v7' | 'ustar' | 'gnu' | 'star'

const dialectOf = (bytes: Buffer, at: number): Dialect => {
  const magic = bytes.toString('latin1', at + 257, at + 263)
  if (magic === 'ustar ') return 'gnu'
  if (magic !== 'ustar\0') return 'v7'
  return bytes.toString('latin1', at + 508, at + 512) === 'tar\0' ? 'star' : 'ustar'
}

const nameOf = (bytes: Buffer, at: number, dialect: Dialect): string => {
  const name = text(bytes, at, 100)
  if (dialect === 'v7' || dialect === 'gnu') return name
  const prefix = text(bytes, at + 345, dialect === 'star' ? 131 : 155)
  return prefix === '' ? name : `${prefix}/${name}`
}

/** The bytes up to the first NUL, or all of the field. */
const text = (bytes: Buffer, at: number, length: number): string => {
  const nul = bytes.indexOf(0, at)
  return bytes.toString('latin1', at, nul === -1 || nul > at + length ? at + length : nul)
}

const isZeroBlock = (bytes: Buffer, at: number): boolean => {
  for (let i = at; i < at + BLOCK; i++) if (bytes[i] !== 0) return false
  return true
}

/** Old writers summed signed bytes; both sums are accepted, as by every reader. */
const checkSum = (bytes: Buffer, at: number): void => {
  let unsigned = 8 * 0x20
  let signed = unsigned
  for (let i = 0; i < BLOCK; i++) {
    if (i === 148) i = 156
    const byte = bytes[at + i] ?? 0
    unsigned += byte
    signed += byte > 127 ? byte - 256 : byte
  }
  const stored = number(bytes, at + 148, 8, 'checksum')
  if (stored !== unsigned && stored !== signed) throw refused('Archive has a header with a wrong checksum')
}

/** A numeric field: octal text padded with spaces or NULs, or base-256 when the first bit is set. */
export const number = (bytes: Buffer, at: number, length: number, field: string): number =>
  (bytes[at] ?? 0) & 0x80 ? base256(bytes, at, length, field) : octal(bytes, at, length, field)

const isPadding = (byte: number | undefined): boolean => byte === 0x20 || byte === 0

const octal = (bytes: Buffer, at: number, length: number, field: string): number => {
  let start = at
  let end = at + length
  while (start < end && isPadding(bytes[start])) start++
  while (end > start && isPadding(bytes[end - 1])) end--
  let value = 0
  for (let i = start; i < end; i++) {
    const digit = (bytes[i] ?? 0) - 0x30
    if (digit < 0 || digit > 7) throw refused(`Archive has a header whose ${field} is not a number`)
    value = value * 8 + digit
  }
  return value
}

/** Two's complement, big-endian, in all bits but the first. */
const base256 = (bytes: Buffer, at: number, length: number, field: string): number => {
  const negative = ((bytes[at] ?? 0) & 0x40) !== 0
  let value = 0
  for (let i = 0; i < length; i++) {
    let byte = bytes[at + i] ?? 0
    if (negative) byte ^= 0xff
    if (i === 0) byte &= 0x7f
    value = value * 256 + byte
    if (value > Number.MAX_SAFE_INTEGER) throw refused(`Archive has a header whose ${field} is out of range`)
  }
  return negative ? -value - 1 : value
}
