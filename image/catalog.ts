/**
 * The images of one moment, with every way to name them. Immutable: readers keep the one they have, writers publish a
 * new one (design D9).
 */

import { RuntimeError } from '#proto/errors.ts'
import { isDigest } from '#storage/digest.ts'
import type { ImageRecord } from './image-record.ts'
import { canonical, type ImageReference, parseReference, repositoryOf } from './reference.ts'

const SHORTEST_PREFIX = 4
const PREFIX = /^(?:sha256:)?([0-9a-f]{4,64})$/

export class Catalog {
  readonly images: readonly ImageRecord[]
  readonly #byId: ReadonlyMap<string, ImageRecord>
  readonly #byName: ReadonlyMap<string, ImageRecord>

  constructor(images: Iterable<ImageRecord>) {
    this.images = Object.freeze([...images])
    this.#byId = new Map(this.images.map((image) => [image.id, image]))
    this.#byName = new Map(
      this.images.flatMap((image) => [...image.repoDigests, ...image.repoTags].map((name) => [name, image] as const)),
    )
  }

  byId(id: string): ImageRecord | undefined {
    return this.#byId.get(id)
  }

  byTag(canonicalName: string): ImageRecord | undefined {
    return this.#byName.get(canonicalName)
  }

  /**
   * The image meant by a full id, a name (short ones too), name@digest, or the beginning of an id of at least four hex
   * digits. Names win over beginnings of ids: an image called "cafe" must never turn out to be another one whose id
   * happens to start so. Text that is nothing of this finds nothing.
   * @param meant what the text means as a name, in order, when that is not for the grammar alone to say
   * @throws RuntimeError invalid-argument when several ids begin so
   */
  find(text: string, meant: readonly ImageReference[] = readNames(text)): ImageRecord | undefined {
    const exact = this.#byId.get(text) ?? this.#byId.get(`sha256:${text}`)
    if (exact || isDigest(text)) return exact
    for (const reference of meant) {
      const found = this.#byReference(reference)
      if (found) return found
    }
    return this.#byPrefix(text)
  }

  #byReference(reference: ImageReference): ImageRecord | undefined {
    const named = this.#byName.get(canonical(reference))
    if (named || reference.digest === undefined) return named
    // Some callers join the repository and the image id: "name@<id>".
    const byId = this.#byId.get(reference.digest)
    return byId && isOf(byId, repositoryOf(reference)) ? byId : undefined
  }

  #byPrefix(text: string): ImageRecord | undefined {
    const digits = PREFIX.exec(text)?.[1]
    if (digits === undefined || digits.length < SHORTEST_PREFIX) return undefined
    const found = this.images.filter(({ id }) => id.startsWith(`sha256:${digits}`))
    if (found.length > 1) {
      throw new RuntimeError(
        'invalid-argument',
        `Image id ${JSON.stringify(text)} is ambiguous: ${found.length} begin so`,
      )
    }
    return found[0]
  }
}

const isOf = (image: ImageRecord, repository: string): boolean =>
  image.repoTags.some((tag) => tag.startsWith(`${repository}:`)) ||
  image.repoDigests.some((digest) => digest.startsWith(`${repository}@`))

const readNames = (text: string): ImageReference[] => {
  try {
    return [parseReference(text)]
  } catch {
    return []
  }
}
