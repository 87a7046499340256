/** Which files a tar archive has and where they lie, found by going from header to header. Refuses what a program that writes images does not write. */

import type { FileHandle } from 'node:fs/promises'
import { RuntimeError } from '#proto/errors.ts'
import { type EntryKind, Extensions, kindOf, type TarEntry } from '#storage/tar/entry.ts'
import { BLOCK, decodeHeader, type TarHeader } from '#storage/tar/header.ts'
import { MAX_EXTENSION_BYTES } from '#storage/tar/limits.ts'

export interface ArchivedFile {
  /** Where its content begins in the archive. */
  readonly offset: number
  readonly size: number
}

const MAX_ENTRIES = 20_000
const MAX_NAME = 512
const EXTENSIONS = 'xgLK'

/**
 * By their names, without "./" in front. A link counts as the file that it names in the archive: old `docker save` wrote a
 * layer that several images share once, and links to it.
 * @throws RuntimeError failed-precondition, resource-exhausted
 */
export const listArchive = async (
  handle: FileHandle,
  path: string,
  signal: AbortSignal,
): Promise<Map<string, ArchivedFile>> => {
  const listing = new Listing(path)
  const { size: end } = await handle.stat()
  const block = Buffer.alloc(BLOCK)
  let extensions = new Extensions()
  let at = 0
  let headers = 0
  for (;;) {
    signal.throwIfAborted()
    const { bytesRead } = await handle.read(block, 0, BLOCK, at)
    // Two blocks of zeros end an archive; many writers leave one, or both, away.
    if (bytesRead === 0) break
    if (bytesRead < BLOCK) throw listing.refused('is truncated')
    const header = decodeHeader(block)
    if (header === undefined) break
    if (++headers > MAX_ENTRIES)
      throw new RuntimeError('resource-exhausted', `Archive "${path}" has more than ${MAX_ENTRIES} entries`)
    at += BLOCK
    if (EXTENSIONS.includes(header.type)) {
      at += await takeExtension(handle, header, at, extensions, listing)
      continue
    }
    const entry = entryOf(header, extensions, listing)
    extensions = new Extensions()
    if (at + entry.size > end) throw listing.refused('is truncated')
    listing.add(entry, at)
    at += roundUp(entry.size)
  }
  if (extensions.arePending) throw listing.refused('ends after an extension header')
  return listing.resolve()
}

const roundUp = (size: number): number => Math.ceil(size / BLOCK) * BLOCK

const takeExtension = async (
  handle: FileHandle,
  { type, size }: TarHeader,
  at: number,
  extensions: Extensions,
  listing: Listing,
): Promise<number> => {
  if (size < 0 || size > MAX_EXTENSION_BYTES) throw listing.refused(`has an extension header of ${size} bytes`)
  const content = Buffer.alloc(size)
  if ((await handle.read(content, 0, size, at)).bytesRead < size) throw listing.refused('is truncated')
  extensions.expect(type)
  extensions.take(type, content)
  return roundUp(size)
}

const entryOf = (header: TarHeader, extensions: Extensions, listing: Listing): TarEntry => {
  if (header.type === 'S' || extensions.pax?.sparse !== undefined) throw listing.refused('has a sparse file')
  const kind = kindOf(header)
  return extensions.apply(header, kind, kind === 'file' ? extensions.contentSize(header) : 0)
}

const ALLOWED: readonly EntryKind[] = ['file', 'directory', 'symlink', 'hardlink']

class Listing {
  readonly #path: string
  readonly #files = new Map<string, ArchivedFile>()
  readonly #links = new Map<string, string>()
  readonly #seen = new Set<string>()

  constructor(path: string) {
    this.#path = path
  }

  refused(why: string): RuntimeError {
    return new RuntimeError('failed-precondition', `Archive "${this.#path}" ${why}`)
  }

  add({ kind, name: written, linkName, size }: TarEntry, offset: number): void {
    const name = this.#clean(written)
    if (!ALLOWED.includes(kind)) throw this.refused(`has a device or pipe, ${JSON.stringify(name)}`)
    if (kind === 'directory') return
    if (this.#seen.has(name)) throw this.refused(`has ${JSON.stringify(name)} twice`)
    this.#seen.add(name)
    if (kind === 'file') this.#files.set(name, { offset, size })
    else this.#links.set(name, kind === 'hardlink' ? this.#clean(linkName) : this.#target(name, linkName))
  }

  /** One step only: a link to a link is nothing that anybody wrote. */
  resolve(): Map<string, ArchivedFile> {
    for (const [name, target] of this.#links) {
      const file = this.#files.get(target)
      if (file === undefined) throw this.refused(`has a link, ${JSON.stringify(name)}, to no file of its own`)
      this.#files.set(name, file)
    }
    return this.#files
  }

  /** The relative target of a symbolic link, as a name in the archive. */
  #target(name: string, linkName: string): string {
    if (linkName.startsWith('/')) throw this.refused(`has a link, ${JSON.stringify(name)}, that leads out of it`)
    const parts = name.split('/').slice(0, -1)
    for (const part of linkName.split('/')) {
      if (part === '' || part === '.') continue
      if (part !== '..') parts.push(part)
      else if (parts.pop() === undefined)
        throw this.refused(`has a link, ${JSON.stringify(name)}, that leads out of it`)
    }
    return parts.join('/')
  }

  #clean(written: string): string {
    const name = written.replace(/^(\.\/+)+/, '').replace(/\/+$/, '')
    const parts = name.split('/')
    if (name.length > MAX_NAME || name.includes('\0') || name.startsWith('/') || parts.includes('..')) {
      throw this.refused(`has the name ${JSON.stringify(name.slice(0, 80))}, which leads out of it`)
    }
    return name
  }
}
