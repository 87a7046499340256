/**
 * Byte stream → entries of a tar archive, pushed into a sink. Synchronous, keeps at most one extension header (1 MiB)
 * in memory. Knows formats, not policies: names are as the archive has them.
 */
import { contentSize, type EntryKind, Extensions, kindOf, type TarEntry } from './entry.ts'
import { BLOCK, decodeHeader, number, type TarHeader } from './header.ts'
import { MAX_EXTENSION_BYTES } from './limits.ts'
import type { PaxSparse } from './pax.ts'
import { refused, tooMuch } from './refused.ts'
import { checkedSegments, MapInData, oldGnuContinues, oldGnuPairs, roundedUp, type Segment } from './sparse.ts'

/** Gets `begin`, any number of `data` (files only), `end` for each entry. `bytes` is only valid during the call. */
export interface EntrySink {
  begin(entry: TarEntry): void
  data(bytes: Buffer, position: number): void
  end(): void
}

type State =
  | { readonly at: 'header' }
  /** Collecting the content of an extension header. */
  | { readonly at: 'extension'; readonly type: string; readonly chunks: Buffer[] }
  /** Collecting old GNU extension blocks, which stand between header and data. */
  | { readonly at: 'sparse-blocks'; readonly header: TarHeader; readonly realSize: number; readonly pairs: number[] }
  | { readonly at: 'sparse-map'; readonly header: TarHeader; readonly realSize: number; readonly map: MapInData }
  | { readonly at: 'data' }
  | { readonly at: 'end' }

const HEADER: State = { at: 'header' }
const DATA: State = { at: 'data' }
const EMPTY: Buffer = Buffer.alloc(0)

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
  readonly #extensions = new Extensions()

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
    if (!between || this.#extensions.arePending) throw refused('Archive is truncated')
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
        this.#takeSparseBlock(this.#state, bytes.subarray(at, at + BLOCK))
        break
      case 'sparse-map':
        this.#takeMapBlock(this.#state, bytes.subarray(at, at + BLOCK))
        break
      default:
        this.#takeHeader(bytes, at)
    }
  }

  #takeHeader(bytes: Buffer, at: number): void {
    const header = decodeHeader(bytes, at)
    if (header === undefined) {
      this.#takeZeroBlock()
      return
    }
    if (this.#zeroBlocks > 0) throw refused('Archive goes on after a block of zeros')
    this.#headers += 1
    if (this.#headers > this.#maxHeaders) throw tooMuch(`Archive has more than ${this.#maxHeaders} entries`)
    const sparse = this.#extensions.pax?.sparse
    switch (header.type) {
      case 'x':
      case 'g':
      case 'L':
      case 'K':
        this.#beginExtension(header)
        break
      case 'S':
        this.#beginOldSparse(header, bytes.subarray(at, at + BLOCK))
        break
      case 'V':
        this.#skipContent(header)
        break
      default:
        if (sparse === undefined) this.#beginEntry(header)
        else this.#beginPaxSparse(header, sparse)
    }
  }

  /** Two blocks of zeros end an archive; what follows is not looked at, only hashed by the caller. */
  #takeZeroBlock(): void {
    if (this.#extensions.arePending) throw refused('Archive ends after an extension header')
    this.#zeroBlocks += 1
    if (this.#zeroBlocks === 2) this.#state = { at: 'end' }
  }

  #beginExtension(header: TarHeader): void {
    const size = contentSize(header)
    if (size > MAX_EXTENSION_BYTES) throw refused(`Archive has an extension header of ${size} bytes`)
    this.#extensions.expect(header.type)
    this.#state = { at: 'extension', type: header.type, chunks: [] }
    this.#expect(size)
  }

  #skipContent(header: TarHeader): void {
    this.#extensions.clear()
    this.#state = HEADER
    this.#expect(contentSize(header))
  }

  #beginEntry(header: TarHeader): void {
    const kind = kindOf(header)
    const size = kind === 'file' ? this.#extensions.contentSize(header) : 0
    this.#begin(header, kind, size, size === 0 ? [] : [{ offset: 0, length: size }], size)
  }

  #beginOldSparse(header: TarHeader, block: Buffer): void {
    const realSize = number(block, 483, 12, 'real size')
    if (realSize < 0) throw refused('Archive has a sparse file of negative size')
    const pairs = oldGnuPairs(block, 386, 4)
    this.#extensionBytes = 0
    if (oldGnuContinues(block, 482)) this.#state = { at: 'sparse-blocks', header, realSize, pairs }
    else this.#beginSparse(header, pairs, realSize, this.#extensions.contentSize(header))
  }

  #takeSparseBlock(state: State & { at: 'sparse-blocks' }, block: Buffer): void {
    this.#countExtension()
    for (const value of oldGnuPairs(block, 0, 21)) state.pairs.push(value)
    if (oldGnuContinues(block, 504)) return
    this.#beginSparse(state.header, state.pairs, state.realSize, this.#extensions.contentSize(state.header))
  }

  #beginPaxSparse(header: TarHeader, sparse: PaxSparse): void {
    if (kindOf(header) !== 'file') throw refused('Archive has a sparse map for something that is no file')
    const dataSize = this.#extensions.contentSize(header)
    if (sparse.realSize === undefined) throw refused('Archive has a sparse file without its real size')
    if (sparse.map === undefined) {
      this.#extensionBytes = 0
      this.#state = { at: 'sparse-map', header, realSize: sparse.realSize, map: new MapInData() }
    } else this.#beginSparse(header, sparse.map, sparse.realSize, dataSize)
  }

  #takeMapBlock(state: State & { at: 'sparse-map' }, block: Buffer): void {
    this.#countExtension()
    const dataSize = this.#extensions.contentSize(state.header) - this.#extensionBytes
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
    const entry = this.#extensions.apply(header, kind, size)
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
      const { type, chunks } = this.#state
      this.#state = HEADER
      this.#extensions.take(type, chunks.length === 1 ? (chunks[0] ?? EMPTY) : Buffer.concat(chunks))
    } else if (this.#state.at === 'data') {
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
