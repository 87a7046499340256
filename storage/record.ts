/**
 * Small JSON records that know their own length and checksum, so that a file that power loss left empty, short or mixed is
 * known for what it is. On disk: `{"bytes":N,"sha256":"…","record":…}` and a newline; both figures are of the text behind
 * "record". Records of before had no length; they are still read, and get one when they are next written.
 */
import { lstat } from 'node:fs/promises'
import type * as z from 'zod'
import { readFileIfExists, writeFileAtomic } from '#linux/atomic-file.ts'
import { digestOf } from './digest.ts'

/** What reading a record can give. */
export type ReadRecord<T> =
  | { readonly is: 'whole'; readonly record: T }
  | { readonly is: 'missing' }
  | { readonly is: 'damaged'; readonly why: string }

/** What the text of a record file turns out to be. */
export type Sealed =
  | { readonly is: 'whole'; readonly content: unknown }
  /** JSON without a seal. */
  | { readonly is: 'bare'; readonly content: unknown }
  | { readonly is: 'damaged'; readonly why: string }

const MAX_RECORD_BYTES = 64 * 2 ** 20
const SEAL = /^\{(?:"bytes":(\d{1,9}),)?"sha256":"([0-9a-f]{64})","record":/

/** @param content JSON */
export const sealed = (content: string): string =>
  `{"bytes":${Buffer.byteLength(content)},"sha256":"${checksum(content)}","record":${content}}\n`

/** Reads what `sealed` wrote. Throws nothing. */
export const unseal = (text: string): Sealed => {
  const seal = SEAL.exec(text)
  try {
    if (seal === null) return { is: 'bare', content: JSON.parse(text) }
    if (!text.endsWith('}\n')) return { is: 'damaged', why: 'is cut short' }
    const content = text.slice(seal[0].length, -2)
    if (seal[1] !== undefined && Number(seal[1]) !== Buffer.byteLength(content))
      return { is: 'damaged', why: `has ${Buffer.byteLength(content)} bytes instead of ${seal[1]}` }
    if (checksum(content) !== seal[2]) return { is: 'damaged', why: 'does not match its checksum' }
    return { is: 'whole', content: JSON.parse(content) }
  } catch {
    return { is: 'damaged', why: 'is no JSON' }
  }
}

const checksum = (content: string): string => digestOf(content).slice('sha256:'.length)

/** Writes temp, then renames. `durable` syncs the file and its directory. */
export const writeRecord = (path: string, record: object, options: { durable: boolean }): Promise<void> =>
  writeFileAtomic(path, sealed(JSON.stringify(record)), options)

/** Never throws for what is in the file; I/O errors are thrown. */
export const readRecord = async <T>(path: string, schema: z.ZodType<T>): Promise<ReadRecord<T>> => {
  const stat = await lstat(path).catch(() => undefined)
  if (stat === undefined) return { is: 'missing' }
  if (!stat.isFile() || stat.size > MAX_RECORD_BYTES) return { is: 'damaged', why: 'is no file or far too big' }
  const content = await readFileIfExists(path, MAX_RECORD_BYTES)
  return content === undefined ? { is: 'missing' } : parseRecord(content.toString(), schema)
}

const parseRecord = <T>(text: string, schema: z.ZodType<T>): ReadRecord<T> => {
  const found = unseal(text)
  if (found.is === 'damaged') return found
  if (found.is === 'bare') return { is: 'damaged', why: 'is no record' }
  try {
    return { is: 'whole', record: schema.parse(found.content) }
  } catch {
    return { is: 'damaged', why: 'has other fields than expected' }
  }
}
