/**
 * A blob → its partial file, which somebody unpacks and verifies from its beginning while it arrives. A big one comes over several connections, each
 * with the first part that nobody fetches yet; a server that does not give what was asked for is asked for the whole, on one.
 */

import { messageOf } from '#proto/errors.ts'
import type { ByteRange } from '#storage/extents.ts'
import type { PartialBlob } from '#storage/partial-blob.ts'
import { Download, type DownloadInput } from './download-blob.ts'
import type { BlobStream } from './image-source.ts'
import type { Descriptor } from './manifest.ts'
import { NotThatRange } from './registry/registry-error.ts'
import type { Slots } from './slots.ts'

export interface PartsSettings {
  /** Most connections for one blob. */
  readonly connections: number
  /** Smaller blobs come over one. */
  readonly fromBytes: number
  /** Of connections beside the first one of each blob, shared by all pulls. */
  readonly further: Slots
}

export interface PartsInput extends DownloadInput {
  readonly parts: PartsSettings
}

/** Long enough that asking for the next one does not count, short enough that who unpacks need not wait for the first. */
const MOST_PART = 16 * 2 ** 20
const LEAST_PART = 256 * 1024
const PARTS = 16

interface Part {
  start: number
  end: number
}

export class DownloadParts {
  readonly #input: PartsInput
  readonly #descriptor: Descriptor
  readonly #partial: PartialBlob
  readonly #busy = new Set<Part>()
  readonly #versions = new Map<string, string>()
  #connections: number
  /** Whether parts are asked for at all. */
  #inParts: boolean
  #first: Download | undefined
  /** Of all but the first connection. */
  readonly #further = new Set<Promise<void>>()
  /** Whether the bytes may be of several answers. */
  #isMixed: boolean

  /** @param isFirst whether nothing of this blob has turned out wrong yet; then one server at a time is asked, to know who it was */
  constructor(input: PartsInput, descriptor: Descriptor, partial: PartialBlob, { isFirst }: { isFirst: boolean }) {
    this.#input = input
    this.#descriptor = descriptor
    this.#partial = partial
    const { connections, fromBytes } = input.parts
    this.#connections = isFirst && descriptor.size >= fromBytes ? connections : 1
    const missing = partial.missing()
    this.#inParts = this.#connections > 1 || missing.length > 1
    this.#isMixed = missing.length !== 1 || missing[0]?.start !== 0
  }

  /** Done when all bytes are there, right or wrong. @throws as `downloadBlob` */
  async run(signal: AbortSignal): Promise<void> {
    const stop = new AbortController()
    const both = AbortSignal.any([signal, stop.signal])
    try {
      await this.#fetchFirst(both)
    } finally {
      // Also in success: what they still fetch has come with the whole.
      stop.abort(new Error('another connection has ended the download'))
      await Promise.all(this.#further)
    }
  }

  /** Whether wrong bytes may be right next time; see Download. */
  canStartOver(): boolean {
    return this.#isMixed || this.#first?.canStartOver() === true
  }

  /** The connection that stays until the end, whatever happens to the others. */
  async #fetchFirst(signal: AbortSignal): Promise<void> {
    for (;;) {
      const part = this.#take()
      if (part === undefined) {
        if (this.#partial.missing().length === 0) return
        // What another one gives up is ours again.
        await Promise.race(this.#further)
        continue
      }
      try {
        await this.#fetch(part, signal, true)
      } catch (error) {
        if (!(error instanceof NotThatRange) || !this.#inParts) throw error
        this.#giveUpParts(error)
      } finally {
        this.#busy.delete(part)
      }
    }
  }

  async #fetchFurther(signal: AbortSignal): Promise<void> {
    for (let part = this.#take(); part !== undefined; part = this.#take()) {
      try {
        await this.#fetch(part, signal, false)
      } catch (error) {
        if (signal.aborted) return
        // It may be one connection too many, or the disk: the first one will find out.
        this.#connections = Math.max(1, this.#connections - 1)
        const { digest: what } = this.#descriptor
        this.#input.log.info('Fetching a blob over one connection less', { what, cause: messageOf(error) })
        return
      } finally {
        this.#busy.delete(part)
      }
    }
  }

  async #fetch(part: Part, signal: AbortSignal, isFirst: boolean): Promise<void> {
    const { timing } = this.#input
    const input = isFirst
      ? this.#input
      : { ...this.#input, timing: { ...timing, attempts: Math.min(2, timing.attempts) } }
    const download = new Download(input, this.#descriptor, {
      offset: () => part.start,
      end: () => part.end,
      store: async (pieces, stream) => {
        this.#accept(part, stream, isFirst, signal)
        for await (const bytes of pieces) {
          signal.throwIfAborted()
          await this.#partial.write(bytes, part.start)
          part.start += bytes.length
        }
      },
    })
    if (isFirst) this.#first = download
    await download.run(signal)
  }

  /** Whether this is what was asked for, and what follows from it. */
  #accept(part: Part, stream: BlobStream, isFirst: boolean, signal: AbortSignal): void {
    const end = stream.end ?? this.#descriptor.size
    const isAsked = stream.offset === part.start && end === part.end
    if (!isFirst && !(isAsked && this.#isSameVersion(stream)))
      throw new NotThatRange('The answer is another part than the one that was asked for, or of something else')
    if (isAsked && !this.#isSameVersion(stream)) throw new NotThatRange('The registry has changed what it sends')
    if (!isAsked) this.#connections = 1
    part.start = stream.offset
    part.end = end
    if (isAsked && stream.end !== undefined) this.#invite(signal)
  }

  #isSameVersion({ version }: BlobStream): boolean {
    if (version === undefined) return true
    const known = this.#versions.get(version.server) ?? version.tag
    this.#versions.set(version.server, known)
    return known === version.tag
  }

  #giveUpParts(error: NotThatRange): void {
    this.#inParts = false
    this.#connections = 1
    this.#versions.clear()
    const { digest: what } = this.#descriptor
    this.#input.log.info('Fetching a blob as a whole', { what, cause: error.message })
  }

  /** Once the server has shown that it gives parts. */
  #invite(signal: AbortSignal): void {
    while (this.#further.size < this.#connections - 1 && this.#next() !== undefined) {
      const slot = this.#input.parts.further.tryTake()
      if (slot === undefined) return
      const fetching = this.#fetchFurther(signal).finally(() => {
        slot[Symbol.dispose]()
        this.#further.delete(fetching)
      })
      this.#further.add(fetching)
      this.#isMixed = true
    }
  }

  #take(): Part | undefined {
    const next = this.#next()
    if (next === undefined) return undefined
    const part = { ...next }
    this.#busy.add(part)
    return part
  }

  /** The first bytes that neither are there nor are being fetched. */
  #next(): ByteRange | undefined {
    const { size } = this.#descriptor
    const gaps = this.#partial.missing()
    if (!this.#inParts) {
      const [gap] = gaps
      return gap && { start: gap.start, end: size }
    }
    const most = this.#connections > 1 ? partSize(size) : size
    for (const gap of gaps) {
      let { start } = gap
      for (const busy of [...this.#busy].sort((a, b) => a.start - b.start)) {
        if (busy.start > start && Math.min(busy.start, gap.end) > start)
          return { start, end: Math.min(busy.start, gap.end, start + most) }
        if (busy.end > start) start = busy.end
      }
      if (start < gap.end) return { start, end: Math.min(gap.end, start + most) }
    }
    return undefined
  }
}

const partSize = (size: number): number => Math.min(Math.max(Math.ceil(size / PARTS), LEAST_PART), MOST_PART)
