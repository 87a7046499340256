/** A pull from a registry, as pull-image.ts wants it: where from, under which names, by whose leave. */

import type { ImageRecord } from './image-record.ts'
import type { Operation } from './operations.ts'
import type { Trust } from './policy/trust.ts'
import type { PullInput } from './pull-image.ts'
import { canonical, type ImageReference, repositoryOf } from './reference.ts'
import type { Asker, RegistrySources } from './registry/registry-sources.ts'
import type { Testimony } from './signatures/evidence-store.ts'

export interface RegistryPullNeeds {
  readonly sources: RegistrySources
  readonly trust: Trust
  readonly operation: Operation
  /** Writes the record, with what speaks for the image. */
  readonly record: (image: ImageRecord, found: Partial<Testimony>) => Promise<ImageRecord>
}

export const registryPull = (
  { sources, trust, operation, record }: RegistryPullNeeds,
  reference: ImageReference,
  asker: Asker,
): PullInput => {
  const what = canonical(reference)
  const { digest } = reference
  let found: Partial<Testimony> = {}
  return {
    source: sources.open(reference, asker),
    target: digest === undefined ? { tag: reference.tag ?? 'latest' } : { digest },
    what,
    operation,
    // Signatures are asked for apart: a mirror that has none is no worse a mirror.
    admit: async (arrived, signal) => {
      const arrival = { reference, namespace: asker.namespace, source: sources.open(reference, asker), ...arrived }
      found = await trust.admitPull(arrival, signal)
    },
    names: (digests) => ({
      // Like everybody else: who pulls by digest gets no tag, even when one was written beside it.
      repoTags: digest === undefined ? [what] : [],
      repoDigests: digests.map((each) => `${repositoryOf(reference)}@${each}`),
      pinned: false,
    }),
    record: (image) => record(image, found),
  }
}
