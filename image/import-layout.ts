/**
 * Images out of an OCI image layout directory: how a node gets images without a network. Imported images are pinned.
 * Names come from the annotation org.opencontainers.image.ref.name.
 */

import * as z from 'zod'
import type { Linux } from '#linux/linux.ts'
import { RuntimeError } from '#proto/errors.ts'
import type { Digest } from '#storage/digest.ts'
import type { ImageRecord } from './image-record.ts'
import { LayoutSource } from './layout-source.ts'
import { check, descriptorField, MAX_DOCUMENT_BYTES } from './manifest.ts'
import { documentKind } from './media-types.ts'
import type { Operations } from './operations.ts'
import { type PullInput, type PullNeeds, pullImage } from './pull-image.ts'
import { canonical, parseReference, repositoryOf } from './reference.ts'
import { parseStrictJson } from './strict-json.ts'

const NAME = 'org.opencontainers.image.ref.name'
/** What containerd writes beside it: always the full name. */
const FULL_NAME = 'io.containerd.image.name'

const markerFields = z.object({ imageLayoutVersion: z.string().max(20) })
const indexFields = z.object({
  schemaVersion: z.literal(2),
  manifests: z.array(descriptorField.extend({ annotations: z.record(z.string(), z.string()).nullish() })).max(1000),
})

export interface ImportNeeds extends PullNeeds {
  readonly linux: Linux
  readonly operations: Operations
  readonly record: PullInput['record']
  readonly admit: PullInput['admit']
}

/**
 * Imports every image of the layout, one after the other.
 * @throws RuntimeError failed-precondition (not a layout, broken content, wrong platform), invalid-argument (bad name)
 */
export const importLayout = async (needs: ImportNeeds, dir: string, signal: AbortSignal): Promise<ImageRecord[]> => {
  const source = new LayoutSource(dir, needs.linux)
  const { imageLayoutVersion } = readFields(source, 'oci-layout', markerFields)
  if (!imageLayoutVersion.startsWith('1.')) {
    throw new RuntimeError('failed-precondition', `Layout "${dir}" has the unsupported version "${imageLayoutVersion}"`)
  }
  const { manifests } = readFields(source, 'index.json', indexFields)
  const imported: ImageRecord[] = []
  for (const { digest, mediaType, annotations } of manifests) {
    if (documentKind(mediaType) === undefined) continue
    const name = annotations?.[FULL_NAME] ?? annotations?.[NAME]
    using operation = needs.operations.start(`${dir} ${name ?? digest}`)
    const input: PullInput = {
      source,
      target: { digest },
      expectedType: mediaType,
      what: name ?? `${dir}@${digest}`,
      operation,
      admit: needs.admit,
      names: namesFor(name),
      record: needs.record,
    }
    imported.push(await pullImage(needs, input, signal))
  }
  return imported
}

const readFields = <T extends z.ZodType>(source: LayoutSource, name: string, fields: T): z.output<T> => {
  const what = `File "${name}" of the layout`
  return check(fields, parseStrictJson(source.readNamed(name, MAX_DOCUMENT_BYTES), what), what)
}

const namesFor = (name: string | undefined): PullInput['names'] => {
  if (name === undefined) return () => ({ repoTags: [], repoDigests: [], pinned: true })
  const reference = parseReference(name)
  return (digests: readonly Digest[]) => ({
    repoTags: reference.digest === undefined ? [canonical(reference)] : [],
    repoDigests: digests.map((digest) => `${repositoryOf(reference)}@${digest}`),
    pinned: true,
  })
}
