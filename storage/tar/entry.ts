/** What an entry of an archive is, put together from its header and the extension headers before it. Pure. */
import type { TarHeader } from './header.ts'
import { decodePax, type PaxRecords, type Timestamp } from './pax.ts'
import { refused, shown } from './refused.ts'

export type EntryKind = 'file' | 'directory' | 'symlink' | 'hardlink' | 'char' | 'block' | 'fifo'

/** One entry with everything that headers before it said. Strings hold one character per byte. */
export interface TarEntry {
  readonly kind: EntryKind
  readonly name: string
  readonly linkName: string
  /** Permission bits and set-id bits, 0-0o7777. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** Length of the file, holes included; 0 for everything but files. */
  readonly size: number
  readonly mtime: Timestamp
  readonly major: number
  readonly minor: number
  readonly xattrs: ReadonlyMap<string, Buffer>
}

/** What the extension headers seen so far say about the entry that comes next. */
export class Extensions {
  #longName: string | undefined
  #longLink: string | undefined
  #pax: PaxRecords | undefined

  get pax(): PaxRecords | undefined {
    return this.#pax
  }

  get arePending(): boolean {
    return this.#longName !== undefined || this.#longLink !== undefined || this.#pax !== undefined
  }

  /** Throws for a second one of a type: a million long names in a row are an attack, no archive. */
  expect(type: string): void {
    const repeated =
      (type === 'x' && this.#pax !== undefined) ||
      (type === 'L' && this.#longName !== undefined) ||
      (type === 'K' && this.#longLink !== undefined)
    if (repeated) throw refused(`Archive has two extension headers of type "${type}" for one entry`)
  }

  /** Global headers (`g`) are ignored as most readers do; applying their path or size to every entry helps nobody. */
  take(type: string, content: Buffer): void {
    if (type === 'x') this.#pax = decodePax(content)
    else if (type === 'L') this.#longName = untilNul(content)
    else if (type === 'K') this.#longLink = untilNul(content)
  }

  clear(): void {
    this.#longName = this.#longLink = this.#pax = undefined
  }

  /** The entry of `header`; the extensions are used up. */
  apply(header: TarHeader, kind: EntryKind, size: number): TarEntry {
    const pax = this.#pax
    const entry: TarEntry = {
      kind,
      name: pax?.sparse?.name ?? pax?.path ?? this.#longName ?? header.name,
      linkName: pax?.linkPath ?? this.#longLink ?? header.linkName,
      mode: header.mode & 0o7777,
      uid: userId(pax?.uid ?? header.uid),
      gid: userId(pax?.gid ?? header.gid),
      size,
      mtime: pax?.mtime ?? { seconds: header.mtime, nanoseconds: 0 },
      major: header.major,
      minor: header.minor,
      xattrs: pax?.xattrs ?? NO_XATTRS,
    }
    this.clear()
    return entry
  }

  /** Bytes that follow the header of an entry. */
  contentSize(header: TarHeader): number {
    return this.#pax?.size ?? contentSize(header)
  }
}

const NO_XATTRS: ReadonlyMap<string, Buffer> = new Map()

/** Bytes that follow a header, by its own size field. */
export const contentSize = (header: TarHeader): number => {
  if (header.size < 0) throw refused(`Archive has an entry of negative size: ${shown(header.name)}`)
  return header.size
}

/** Throws for types that no layer has: multi-volume parts, dumps, vendors' own. */
export const kindOf = (header: TarHeader): EntryKind => {
  switch (header.type) {
    case '0':
    case '7':
      return 'file'
    // v7 had no type for directories, only the slash.
    case '\0':
      return header.name.endsWith('/') ? 'directory' : 'file'
    case '1':
      return 'hardlink'
    case '2':
      return 'symlink'
    case '3':
      return 'char'
    case '4':
      return 'block'
    case '5':
      return 'directory'
    case '6':
      return 'fifo'
    default:
      throw refused(`Archive has an entry of unknown type ${shown(header.type)}: ${shown(header.name)}`)
  }
}

/** -1 means "leave unchanged" to chown, so it is no id. */
const userId = (id: number): number => {
  if (id < 0 || id >= 2 ** 32 - 1) throw refused(`Archive has an owner that is out of range: ${id}`)
  return id
}

const untilNul = (bytes: Buffer): string => {
  const nul = bytes.indexOf(0)
  return bytes.toString('latin1', 0, nul === -1 ? bytes.length : nul)
}
