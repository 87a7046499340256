/** The ways in which a request or an image is refused, and checks of single values that several parts share. */
import { posix } from 'node:path'
import { RuntimeError } from '#proto/errors.ts'

/** The request is wrong. */
export const invalid = (message: string, cause?: unknown): RuntimeError =>
  new RuntimeError('invalid-argument', message, { cause })

/** The request is right, but this host or this image cannot serve it. */
export const impossible = (message: string, cause?: unknown): RuntimeError =>
  new RuntimeError('failed-precondition', message, { cause })

/** A value as it may stand in an error message: quoted, without control characters, bounded. */
export const quoted = (value: string): string => JSON.stringify(value.length > 200 ? `${value.slice(0, 200)}…` : value)

const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/

export const hasControlCharacters = (value: string): boolean => CONTROL.test(value)

/** Longest path that the kernel takes, its NUL not counted. */
const MAX_PATH_BYTES = 4095

/**
 * The path with "." and ".." and repeated slashes resolved as text, so that "/dev/../proc" is seen for what it is.
 * @throws RuntimeError invalid-argument when it is empty, relative, too long or holds control characters
 */
export const absolutePath = (field: string, path: string): string => {
  if (path === '') throw invalid(`${field} is empty`)
  if (hasControlCharacters(path)) throw invalid(`${field} ${quoted(path)} holds control characters`)
  if (!path.startsWith('/')) throw invalid(`${field} ${quoted(path)} is not an absolute path`)
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) throw invalid(`${field} is longer than ${MAX_PATH_BYTES} bytes`)
  const tidy = posix.normalize(path)
  return tidy.length > 1 && tidy.endsWith('/') ? tidy.slice(0, -1) : tidy
}

/** Whether `path` is `ancestor` or lies below it. Both tidy. */
export const isWithin = (path: string, ancestor: string): boolean =>
  path === ancestor || ancestor === '/' || path.startsWith(`${ancestor}/`)

/** A number of a 64-bit request field as a JSON number. @throws RuntimeError invalid-argument outside min…max */
export const boundedNumber = (field: string, value: bigint, min: number, max = Number.MAX_SAFE_INTEGER): number => {
  if (value < BigInt(min) || value > BigInt(max)) throw invalid(`${field} ${value} is not between ${min} and ${max}`)
  return Number(value)
}
