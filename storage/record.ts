/** Small JSON records with a checksum, so that a file that power loss left empty, short or mixed is known for what it is. */
import { lstat } from 'node:fs/promises'
import type * as z from 'zod'
import { readFileIfExists, writeFileAtomic } from '#linux/atomic-file.ts'
import { digestOf } from './digest.ts'

/** What reading a record can give. */
export type ReadRecord<T> =
  | { readonly is: 'whole'; readonly record: T }
  | { readonly is: 'missing' }
  | { readonly is: 'damaged'; readonly why: string }

const MAX_RECORD_BYTES = 64 * 2 ** 20

/** Writes temp, then renames. `durable` syncs the file and its directory. */
export const writeRecord = (path: string, record: object, options: { durable: boolean }): Promise<void> => {
  const content = JSON.stringify(record)
  return writeFileAtomic(path, `{"sha256":"${digestOf(content).slice(7)}","record":${content}}\n`, options)
}

/** Never throws for what is in the file; I/O errors are thrown. */
export const readRecord = async <T>(path: string, schema: z.ZodType<T>): Promise<ReadRecord<T>> => {
  const stat = await lstat(path).catch(() => undefined)
  if (stat === undefined) return { is: 'missing' }
  if (!stat.isFile() || stat.size > MAX_RECORD_BYTES) return { is: 'damaged', why: 'is no file or far too big' }
  const content = await readFileIfExists(path, MAX_RECORD_BYTES)
  return content === undefined ? { is: 'missing' } : parseRecord(content.toString(), schema)
}

const parseRecord = <T>(text: string, schema: z.ZodType<T>): ReadRecord<T> => {
  try {
    const outer: unknown = JSON.parse(text)
    if (typeof outer !== 'object' || outer === null || !('record' in outer) || !('sha256' in outer))
      return { is: 'damaged', why: 'is no record' }
    if (digestOf(JSON.stringify(outer.record)).slice(7) !== outer.sha256)
      return { is: 'damaged', why: 'does not match its checksum' }
    return { is: 'whole', record: schema.parse(outer.record) }
  } catch (cause) {
    return { is: 'damaged', why: cause instanceof SyntaxError ? 'is no JSON' : 'has other fields than expected' }
  }
}
