/** Which images an OCI layout says it has. Names come from the annotation org.opencontainers.image.ref.name. */

import * as z from 'zod'
import { RuntimeError } from '#proto/errors.ts'
import type { Digest } from '#storage/digest.ts'
import type { LayoutFiles } from '../layout-files.ts'
import { check, descriptorField, MAX_DOCUMENT_BYTES } from '../manifest.ts'
import { documentKind } from '../media-types.ts'
import { parseStrictJson } from '../strict-json.ts'
import type { ArchiveFiles } from './archive-files.ts'

const NAME = 'org.opencontainers.image.ref.name'
/** What containerd and Docker write beside it: always the full name. */
const FULL_NAME = 'io.containerd.image.name'

const MARKER = 'oci-layout'

const markerFields = z.object({ imageLayoutVersion: z.string().max(20) })
const indexFields = z.object({
  schemaVersion: z.literal(2),
  manifests: z.array(descriptorField.extend({ annotations: z.record(z.string(), z.string()).nullish() })).max(1000),
})

interface LayoutImage {
  readonly digest: Digest
  readonly expectedType: string
  readonly names: readonly string[]
}

export const isInLayout = (files: ArchiveFiles): boolean => files.has(MARKER)

/** @throws RuntimeError failed-precondition when it is no layout, or one of another version */
export const layoutImages = async (files: LayoutFiles): Promise<LayoutImage[]> => {
  const { imageLayoutVersion } = await readFields(files, MARKER, markerFields)
  if (!imageLayoutVersion.startsWith('1.')) {
    throw new RuntimeError(
      'failed-precondition',
      `The ${files.what} has the unsupported version "${imageLayoutVersion}"`,
    )
  }
  const { manifests } = await readFields(files, 'index.json', indexFields)
  return manifests
    .filter(({ mediaType }) => documentKind(mediaType) !== undefined)
    .map(({ digest, mediaType, annotations }) => {
      const name = annotations?.[FULL_NAME] ?? annotations?.[NAME]
      return { digest, expectedType: mediaType, names: name === undefined ? [] : [name] }
    })
}

const readFields = async <T extends z.ZodType>(files: LayoutFiles, name: string, fields: T): Promise<z.output<T>> => {
  const what = `File "${name}" of the ${files.what}`
  return check(fields, parseStrictJson(await files.read(name, MAX_DOCUMENT_BYTES), what), what)
}
