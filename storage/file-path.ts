/** Paths that somebody else chose for files of a flat tree of ours: an artifact's titles. Pure: no look at the file system. */
import { RuntimeError } from '#proto/errors.ts'
import { MAX_COMPONENT_BYTES } from './tar/limits.ts'

declare const filePathBrand: unique symbol

/** Relative, in its one spelling: no empty part, no `.`, no `..`, no control character; "weights/part-1.bin". */
export type FilePath = string & { readonly [filePathBrand]: true }

const MAX_FILE_PATH_BYTES = 1024
const MAX_PARTS = 16

/**
 * Nothing is rewritten: a file that turns up under another name than it was given would be a surprise.
 * @throws RuntimeError failed-precondition
 */
export const parseFilePath = (text: string): FilePath => {
  const why = whyRefused(text)
  if (why === undefined) return text as FilePath
  throw new RuntimeError('failed-precondition', `File name ${JSON.stringify(text.slice(0, 100))} ${why}`)
}

const whyRefused = (text: string): string | undefined => {
  // Text that is none in UTF-8 would come out as something else, two of them maybe as the same.
  if (!text.isWellFormed()) return 'is no text'
  if (/\p{Cc}/u.test(text)) return 'has a control character in it'
  if (Buffer.byteLength(text) > MAX_FILE_PATH_BYTES) return `has more than ${MAX_FILE_PATH_BYTES} bytes`
  const parts = text.split('/')
  if (parts.length > MAX_PARTS) return `is more than ${MAX_PARTS} directories deep`
  if (parts.includes('..')) return 'leads upwards'
  if (parts.some((part) => part === '' || part === '.')) return 'is not a plain relative path'
  if (parts.some((part) => Buffer.byteLength(part) > MAX_COMPONENT_BYTES)) {
    return `has a part of more than ${MAX_COMPONENT_BYTES} bytes`
  }
  return undefined
}
