/**
 * What a layer's tree looked like when it was committed: a line for each path, compressed, beside the tree. With it a check
 * tells later which files were lost or changed.
 */
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'

/** Of a path; everything but the content is compared as text. */
export interface Described {
  /** One character per byte; '.' is the root. */
  readonly path: string
  /** Kind, permissions, owner, and what else counts for that kind: size and time, target, device. */
  readonly about: string
  /** Of a file's content. */
  readonly digest?: string
  /** Extended attributes that make a difference, as text; not there in what was written before they were noted. */
  readonly xattrs?: string
}

/** Far above the largest layer that can be unpacked. */
const MAX_TEXT_BYTES = 2 ** 30

export const encodeManifest = (entries: Iterable<Described>): Uint8Array => {
  const lines: string[] = []
  for (const { path, about, digest, xattrs } of entries)
    lines.push(JSON.stringify([path, about, digest ?? null, ...(xattrs === undefined ? [] : [xattrs])]))
  return zstdCompressSync(`${lines.join('\n')}\n`, { params: { [constants.ZSTD_c_checksumFlag]: 1 } })
}

/** By path. @throws Error when it is damaged: its compression has a checksum */
export const decodeManifest = (manifest: Uint8Array): Map<string, Described> => {
  const text = zstdDecompressSync(manifest, { maxOutputLength: MAX_TEXT_BYTES }).toString()
  const entries = new Map<string, Described>()
  for (const line of text.split('\n')) {
    if (line === '') continue
    const entry = describedOf(JSON.parse(line))
    entries.set(entry.path, entry)
  }
  if (!entries.has('.')) throw new Error('A manifest is cut short')
  return entries
}

const describedOf = (line: unknown): Described => {
  const [path, about, digest, xattrs]: unknown[] = Array.isArray(line) ? line : []
  if (typeof path !== 'string' || typeof about !== 'string') throw new Error('A line of a manifest is damaged')
  return {
    path,
    about,
    ...(typeof digest === 'string' && { digest }),
    ...(typeof xattrs === 'string' && { xattrs }),
  }
}
