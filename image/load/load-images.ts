/** Images out of files, for nodes without a network: an OCI layout as directory or archive, or what `docker save` writes. */

import { stat } from 'node:fs/promises'
import type { Linux } from '#linux/linux.ts'
import { RuntimeError } from '#proto/errors.ts'
import type { Digest } from '#storage/digest.ts'
import type { ImageRecord } from '../image-record.ts'
import { DirectoryFiles, type LayoutFiles } from '../layout-files.ts'
import { LayoutSource } from '../layout-source.ts'
import type { Operations } from '../operations.ts'
import type { Trust } from '../policy/trust.ts'
import { type PullInput, type PullNeeds, pullImage } from '../pull-image.ts'
import { canonical, parseReference, repositoryOf } from '../reference.ts'
import type { Testimony } from '../signatures/evidence-store.ts'
import { ArchiveFiles } from './archive-files.ts'
import { DOCKER_LIST_FILE, dockerImages } from './docker-archive.ts'
import { isInLayout, layoutImages } from './layout-images.ts'

export interface LoadNeeds extends PullNeeds {
  readonly linux: Linux
  readonly operations: Operations
  readonly trust: Trust
  /** Where a compressed archive may lie unpacked for a while. */
  readonly scratchDir: string
  readonly record: (image: ImageRecord, found: Partial<Testimony>) => Promise<ImageRecord>
}

export interface LoadRequest {
  /** Absolute. */
  readonly path: string
  /** For the one image of a file that does not say what it is called. */
  readonly name?: string | undefined
  /** Never offered for garbage collection. */
  readonly pin?: boolean | undefined
}

/** One image of a file, not loaded yet. */
interface FoundImage extends Pick<PullInput, 'source' | 'expectedType'> {
  readonly digest: Digest
  readonly names: readonly string[]
}

/**
 * Loads every image of the file, one after the other.
 * @throws RuntimeError not-found, failed-precondition (broken or hostile content, another platform), invalid-argument (names),
 *   resource-exhausted, signature-validation-failed when the policy forbids such files
 */
export const loadImages = async (
  needs: LoadNeeds,
  request: LoadRequest,
  signal: AbortSignal,
): Promise<ImageRecord[]> => {
  const { path } = request
  if (await isDirectory(path))
    return load(needs, request, await fromLayout(new DirectoryFiles(path, needs.linux)), 'oci', signal)
  const limits = { scratchDir: needs.scratchDir, maxBytes: needs.freeBytes() }
  await using files = await ArchiveFiles.open(path, limits, signal)
  if (isInLayout(files)) return await load(needs, request, await fromLayout(files), 'oci-archive', signal)
  if (files.has(DOCKER_LIST_FILE)) {
    const found = await dockerImages(files, signal)
    return await load(needs, request, found, 'docker-archive', signal)
  }
  throw new RuntimeError(
    'failed-precondition',
    `In "${path}" is no image: neither "oci-layout" nor "${DOCKER_LIST_FILE}"`,
  )
}

const isDirectory = async (path: string): Promise<boolean> => {
  try {
    return (await stat(path)).isDirectory()
  } catch (cause) {
    throw new RuntimeError('not-found', `There is no file or directory "${path}"`, { cause })
  }
}

const fromLayout = async (files: LayoutFiles): Promise<FoundImage[]> => {
  const source = new LayoutSource(files)
  return (await layoutImages(files)).map((image) => ({ ...image, source }))
}

const load = async (
  needs: LoadNeeds,
  { path, name, pin = false }: LoadRequest,
  found: readonly FoundImage[],
  transport: string,
  signal: AbortSignal,
): Promise<ImageRecord[]> => {
  const admitted = needs.trust.admitFile(transport, path)
  const loaded: ImageRecord[] = []
  for (const { source, digest, expectedType, names } of withName(found, name, path)) {
    const what = names[0] ?? `${path}@${digest}`
    using operation = needs.operations.start(`${path} ${names[0] ?? digest}`)
    let trail: Partial<Testimony> = {}
    const input: PullInput = {
      source,
      target: { digest },
      ...(expectedType !== undefined && { expectedType }),
      what,
      operation,
      admit: async (arrived) => {
        trail = { digests: [...arrived.trail] }
      },
      names: namesFor(names, pin),
      record: (image) => needs.record(image, { ...admitted, ...trail }),
    }
    loaded.push(await pullImage(needs, input, signal))
  }
  return loaded
}

const withName = (found: readonly FoundImage[], name: string | undefined, path: string): readonly FoundImage[] => {
  if (found.length === 0) throw new RuntimeError('failed-precondition', `There is no image in "${path}"`)
  if (name === undefined) return found
  const [only] = found
  if (only === undefined || found.length > 1 || only.names.length > 0) {
    const names = found.flatMap((image) => image.names)
    throw new RuntimeError('invalid-argument', `"${path}" names its images itself: ${names.join(', ') || found.length}`)
  }
  return [{ ...only, names: [name] }]
}

const namesFor = (names: readonly string[], pinned: boolean): PullInput['names'] => {
  const references = names.map(parseReference)
  return (digests) => ({
    repoTags: references.filter(({ digest }) => digest === undefined).map(canonical),
    repoDigests: [...new Set(references.map(repositoryOf))].flatMap((name) =>
      digests.map((digest) => `${name}@${digest}`),
    ),
    pinned,
  })
}
