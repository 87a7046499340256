/**
 * Byte stream → entries of a tar archive, pushed into a sink. Synchronous, keeps at most one extension header (1 MiB)
 * in memory. Knows formats, not policies: names are as the archive has them.
 */
import { BLOCK, decodeHeader, number, type TarHeader } from './header.ts'
import { MAX_EXTENSION_BYTES } from './limits.ts'
import { decodePax, type PaxRecords, type Timestamp } from './pax.ts'
import { refused, shown, tooMuch } from './refused.ts'
import { checkedSegments, MapInData, oldGnuContinues, oldGnuPairs, roundedUp, type Segment } from './sparse.ts'

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

/** Gets `begin`, any number of `data` (files only), `end` for each entry. `bytes` is only valid during the call. */
export interface EntrySink {
  begin(entry: TarEntry): void
  data(bytes: Buffer, position: number): void
  end(): void
}

type State =
  | { readonly at: 'header' }
  /** Collecting the content of an extension header. */
  | { readonly at: 'extension'; readonly header: TarHeader; readonly size: number; readonly chunks: Buffer[] }
  /** Collecting old GNU extension blocks, which stand between header and data. */
  | { readonly at: 'sparse-blocks'; readonly header: TarHeader; readonly realSize: number; readonly pairs: number[] }
  | { readonly at: 'sparse-map'; readonly header: TarHeader; readonly realSize: number; readonly map: MapInData }
  | { readonly at: 'data' }
  | { readonly at: 'end' }

const HEADER: State = { at: 'header' }
const DATA: State = { at: 'data' }
const EMPTY: Buffer = Buffer.alloc(0)
const NO_XATTRS: ReadonlyMap<string, Buffer> = new Map()

export class EntryReader {
  readonly #sink: EntrySink
  readonly #maxHeaders: number
  #state: State = HEADER
  /** A block whose bytes came in more than one chunk. */
  readonly #block = Buffer.alloc(BLOCK)
  #blockFill = 0
  #headers = 0
  #zeroBlocks = 0
  /** Bytes still to come of the current content, then of the padding behind it. */
  #left = 0
  #padding = 0
  #extensionBytes = 0
  #segments: readonly Segment[] = []
  /** Which segment comes next, and how much of it is delivered. */
  #segment = 0
  #position = 0
  #longName: string | undefined
  #longLink: string | undefined
  #pax: PaxRecords | undefined

  constructor(sink: EntrySink, maxHeaders: number) {
    this.#sink = sink
    this.#maxHeaders = maxHeaders
  }

  /** Takes the next bytes. Throws failed-precondition for what is no archive, and what the sink throws. */
  push(chunk: Buffer): void {
    let at = 0
    while (at < chunk.length) {
      if (this.#state.at === 'end') return
      if (this.#left > 0) at = this.#content(chunk, at)
      else if (this.#padding > 0) at = this.#skipPadding(chunk, at)
      else at = this.#wholeBlock(chunk, at)
    }
  }

  /** Call after the last byte. Throws when the archive stops in the middle of something. */
  finish(): void {
    if (this.#state.at === 'end') return
    const between = this.#state.at === 'header' && this.#blockFill === 0 && this.#left === 0 && this.#padding === 0
    if (!between || this.#hasPendingExtension()) throw refused('Archive is truncated')
  }

  #content(chunk: Buffer, at: number): number {
    const end = Math.min(chunk.length, at + this.#left)
    const bytes = chunk.subarray(at, end)
    this.#left -= bytes.length
    // The chunk is reused by whoever pushed it, so what outlives this call is copied.
    if (this.#state.at === 'extension') this.#state.chunks.push(Buffer.from(bytes))
    else if (this.#state.at === 'data') this.#deliver(bytes)
    if (this.#left === 0) this.#contentOver()
    return end
  }

  #skipPadding(chunk: Buffer, at: number): number {
    const end = Math.min(chunk.length, at + this.#padding)
    this.#padding -= end - at
    return end
  }

  #wholeBlock(chunk: Buffer, at: number): number {
    if (this.#blockFill === 0 && chunk.length - at >= BLOCK) {
      this.#takeBlock(chunk, at)
      return at + BLOCK
    }
    const end = Math.min(chunk.length, at + BLOCK - this.#blockFill)
    this.#blockFill += chunk.copy(this.#block, this.#blockFill, at, end)
    if (this.#blockFill === BLOCK) {
      this.#blockFill = 0
      this.#takeBlock(this.#block, 0)
    }
    return end
  }

  #takeBlock(bytes: Buffer, at: number): void {
    switch (this.#state.at) {
      case 'sparse-blocks':
        return this.#takeSparseBlock(this.#state, bytes.subarray(at, at + BLOCK))
      case 'sparse-map':
        return this.#takeMapBlock(this.#state, bytes.subarray(at, at + BLOCK))
      default:
        return this.#takeHeader(bytes, at)
    }
  }

  #takeHeader(bytes: Buffer, at: number): void {
    const header = decodeHeader(bytes, at)
    if (header === undefined) return this.#takeZeroBlock()
    if (this.#zeroBlocks > 0) throw refused('Archive goes on after a block of zeros')
    this.#headers += 1
    if (this.#headers > this.#maxHeaders) throw tooMuch(`Archive has more than ${this.#maxHeaders} entries`)
    switch (header.type) {
      case 'x':
      case 'g':
      case 'L':
      case 'K':
        return this.#beginExtension(header)
      case 'S':
        return this.#beginOldSparse(header, bytes.subarray(at, at + BLOCK))
      case 'V':
        return this.#skipContent(header)
      default:
        return this.#pax?.sparse === undefined
          ? this.#beginEntry(header)
          : this.#beginPaxSparse(header, this.#pax.sparse)
    }
  }

  /** Two blocks of zeros end an archive; what follows is not looked at, only hashed by the caller. */
  #takeZeroBlock(): void {
    if (this.#hasPendingExtension()) throw refused('Archive ends after an extension header')
    this.#zeroBlocks += 1
    if (this.#zeroBlocks === 2) this.#state = { at: 'end' }
  }

  #hasPendingExtension(): boolean {
    return this.#longName !== undefined || this.#longLink !== undefined || this.#pax !== undefined
  }

  #beginExtension(header: TarHeader): void {
    const size = contentSize(header)
    if (size > MAX_EXTENSION_BYTES) throw refused(`Archive has an extension header of ${size} bytes`)
    const repeated =
      (header.type === 'x' && this.#pax !== undefined) ||
      (header.type === 'L' && this.#longName !== undefined) ||
      (header.type === 'K' && this.#longLink !== undefined)
    if (repeated) throw refused(`Archive has two extension headers of type "${header.type}" for one entry`)
    this.#state = { at: 'extension', header, size, chunks: [] }
    this.#expect(size)
  }

  /** Global headers (`g`) are ignored as most readers do; applying their path or size to every entry helps nobody. */
  #endExtension(header: TarHeader, content: Buffer): void {
    this.#state = HEADER
    if (header.type === 'x') this.#pax = decodePax(content)
    else if (header.type === 'L') this.#longName = untilNul(content)
    else if (header.type === 'K') this.#longLink = untilNul(content)
  }

  #skipContent(header: TarHeader): void {
    this.#longName = this.#longLink = this.#pax = undefined
    this.#state = HEADER
    this.#expect(contentSize(header))
  }

  #beginEntry(header: TarHeader): void {
    const kind = kindOf(header)
    const size = kind === 'file' ? (this.#pax?.size ?? contentSize(header)) : 0
    this.#begin(header, kind, size, size === 0 ? [] : [{ offset: 0, length: size }], size)
  }

  #beginOldSparse(header: TarHeader, block: Buffer): void {
    const realSize = number(block, 483, 12, 'real size')
    if (realSize < 0) throw refused('Archive has a sparse file of negative size')
    const pairs = oldGnuPairs(block, 386, 4)
    this.#extensionBytes = 0
    if (oldGnuContinues(block, 482)) this.#state = { at: 'sparse-blocks', header, realSize, pairs }
    else this.#beginSparse(header, pairs, realSize, this.#pax?.size ?? contentSize(header))
  }

  #takeSparseBlock(state: State & { at: 'sparse-blocks' }, block: Buffer): void {
    this.#countExtension()
    for (const value of oldGnuPairs(block, 0, 21)) state.pairs.push(value)
    if (oldGnuContinues(block, 504)) return
    this.#beginSparse(state.header, state.pairs, state.realSize, this.#pax?.size ?? contentSize(state.header))
  }

  #beginPaxSparse(header: TarHeader, sparse: NonNullable<PaxRecords['sparse']>): void {
    if (kindOf(header) !== 'file') throw refused('Archive has a sparse map for something that is no file')
    const dataSize = this.#pax?.size ?? contentSize(header)
    if (sparse.realSize === undefined) throw refused('Archive has a sparse file without its real size')
    if (sparse.map !== undefined) return this.#beginSparse(header, sparse.map, sparse.realSize, dataSize)
    this.#extensionBytes = 0
    this.#state = { at: 'sparse-map', header, realSize: sparse.realSize, map: new MapInData() }
  }

  #takeMapBlock(state: State & { at: 'sparse-map' }, block: Buffer): void {
    this.#countExtension()
    const dataSize = (this.#pax?.size ?? contentSize(state.header)) - this.#extensionBytes
    if (dataSize < 0) throw refused('Archive has a sparse map that is longer than its file')
    const pairs = state.map.push(block)
    if (pairs !== undefined) this.#beginSparse(state.header, pairs, state.realSize, dataSize)
  }

  #countExtension(): void {
    this.#extensionBytes += BLOCK
    if (this.#extensionBytes > MAX_EXTENSION_BYTES) throw refused('Archive has a sparse map that is too long')
  }

  #beginSparse(header: TarHeader, pairs: readonly number[], realSize: number, dataSize: number): void {
    this.#begin(header, 'file', realSize, checkedSegments(pairs, realSize, dataSize), dataSize)
  }

  #begin(header: TarHeader, kind: EntryKind, size: number, segments: Segment[], dataSize: number): void {
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
    this.#longName = this.#longLink = this.#pax = undefined
    this.#segments = segments
    this.#segment = 0
    this.#position = 0
    this.#state = DATA
    this.#sink.begin(entry)
    this.#expect(dataSize)
  }

  #expect(size: number): void {
    this.#left = size
    this.#padding = roundedUp(size) - size
    if (size === 0) this.#contentOver()
  }

  #contentOver(): void {
    if (this.#state.at === 'extension') {
      const { header, chunks } = this.#state
      const [first = EMPTY] = chunks
      return this.#endExtension(header, chunks.length === 1 ? first : Buffer.concat(chunks))
    }
    if (this.#state.at === 'data') {
      this.#state = HEADER
      this.#sink.end()
    }
  }

  /** Hands out content stretch by stretch; an ordinary file is one stretch. */
  #deliver(content: Buffer): void {
    let bytes = content
    while (bytes.length > 0) {
      const segment = this.#segments[this.#segment]
      if (segment === undefined) throw refused('Archive has more data than its sparse map')
      const length = Math.min(bytes.length, segment.length - this.#position)
      this.#sink.data(length === bytes.length ? bytes : bytes.subarray(0, length), segment.offset + this.#position)
      this.#position += length
      bytes = bytes.subarray(length)
      if (this.#position === segment.length) {
        this.#segment += 1
        this.#position = 0
      }
    }
  }
}

const contentSize = (header: TarHeader): number => {
  if (header.size < 0) throw refused(`Archive has an entry of negative size: ${shown(header.name)}`)
  return header.size
}

const kindOf = (header: TarHeader): EntryKind => {
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
