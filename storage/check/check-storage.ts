/** Looks at everything of a storage on the disk, beside whoever works with it. Changes nothing. */
import { createReadStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Linux } from '#linux/linux.ts'
import { messageOf } from '#proto/errors.ts'
import { algorithmOf, type DiffId, type Digest, digestStream, isDigest } from '../digest.ts'
import { FixUpRecord } from '../fix-up-store.ts'
import { digestText, type Layout, layoutOf, nameOf, recordIn, treeIn } from '../layout.ts'
import { readRecord } from '../record.ts'
import { RootfsRecord } from '../rootfs-record.ts'
import type { WorkerPool } from '../tar/worker-pool.ts'
import { checkLayers, whyDifferent } from './check-layers.ts'
import type { Checked, Finding } from './finding.ts'

/** Layers that somebody needs, bottom first. */
export interface Stack {
  /** What is said to be damaged when they cannot be mounted: an image. */
  readonly id: string
  /** Of its record. */
  readonly path: string
  readonly layers: readonly DiffId[]
}

export interface CheckInput {
  readonly layout: Layout
  readonly linux: Linux
  readonly workers: WorkerPool
  readonly stacks: readonly Stack[]
  /** Whether this host mounts layers at all: then it is tried with those of each stack. */
  readonly mounts: boolean
  /** Roots of additional stores: layers may be there, but are not looked at. */
  readonly additional: readonly string[]
  readonly signal?: AbortSignal
}

export const checkStorage = async (input: CheckInput): Promise<Checked> => {
  const { layout, workers, signal, stacks } = input
  const layers = await checkLayers(layout, workers, signal)
  const damaged = new Set(layers.findings.map(({ id }) => id))
  const blobs = await checkBlobs(layout, signal)
  const rootfs = await checkRootfs(input)
  return {
    findings: [
      ...layers.findings,
      ...blobs.findings,
      ...(await checkFixUps(input)),
      ...rootfs.findings,
      ...(await checkStacks(input, damaged)),
    ],
    looked: { layers: layers.looked, blobs: blobs.looked, rootfs: rootfs.looked, images: stacks.length, records: 0 },
    withoutManifest: layers.withoutManifest,
  }
}

const checkBlobs = async (
  layout: Layout,
  signal: AbortSignal | undefined,
): Promise<{ findings: Finding[]; looked: number }> => {
  const findings: Finding[] = []
  const names = await readdir(layout.blobs)
  for (const name of names) {
    const path = join(layout.blobs, name)
    const digest = digestText(name)
    if (!isDigest(digest))
      findings.push({ kind: 'stray', id: name, path, why: 'is not named after a digest', remedy: 'put aside' })
    else {
      const why = await whyDamaged(path, digest, signal)
      if (why !== undefined && (await isThere(path)))
        findings.push({ kind: 'blob', id: digest, path, why, remedy: 'fetch again' })
    }
  }
  return { findings, looked: names.length }
}

const whyDamaged = async (
  path: string,
  digest: Digest,
  signal: AbortSignal | undefined,
): Promise<string | undefined> => {
  const hash = digestStream(algorithmOf(digest))
  try {
    for await (const bytes of createReadStream(path, { highWaterMark: 256 * 1024, signal })) hash.update(bytes)
  } catch (error) {
    signal?.throwIfAborted()
    return `cannot be read: ${messageOf(error)}`
  }
  const actual = hash.digest()
  return actual === digest ? undefined : `has the digest "${actual}"`
}

const checkFixUps = async ({ layout, workers, signal }: CheckInput): Promise<Finding[]> => {
  const findings: Finding[] = []
  for (const name of await readdir(layout.fixUps)) {
    const path = join(layout.fixUps, name)
    const why = await whyNoFixUp(path, workers, signal)
    if (why !== undefined && (await isThere(path)))
      findings.push({ kind: 'fix-up', id: digestText(name), path, why, remedy: 'make anew' })
  }
  return findings
}

/** Those without files have no manifest: they cost nothing to make, and nobody's data is in them. */
const whyNoFixUp = async (
  path: string,
  workers: WorkerPool,
  signal: AbortSignal | undefined,
): Promise<string | undefined> => {
  const found = await readRecord(recordIn(path), FixUpRecord)
  if (found.is === 'missing') return 'has no record'
  if (found.is === 'damaged') return `record ${found.why}`
  if (!(await isThere(treeIn(path)))) return 'has no tree'
  const why = await whyDifferent(path, workers, signal)
  return why === 'no manifest' ? undefined : why
}

const checkRootfs = async ({ layout, additional }: CheckInput): Promise<{ findings: Finding[]; looked: number }> => {
  const findings: Finding[] = []
  const ids = await readdir(layout.rootfs)
  for (const id of ids) {
    const path = join(layout.rootfs, id)
    const found = await readRecord(recordIn(path), RootfsRecord)
    const why =
      found.is === 'whole'
        ? await whyUnfounded(layout, additional, found.record.layers)
        : found.is === 'missing'
          ? 'has no record'
          : `record ${found.why}`
    if (why !== undefined && (await isThere(path)))
      findings.push({ kind: 'rootfs', id, path, why, remedy: 'replace the container' })
  }
  return { findings, looked: ids.length }
}

const whyUnfounded = async (
  layout: Layout,
  additional: readonly string[],
  layers: readonly DiffId[],
): Promise<string | undefined> => {
  for (const diffId of layers)
    if (!(await placeOf(layout, additional, diffId))) return `stands on layer "${diffId}", which is not there`
  return undefined
}

/** The directory of a layer, ours or of an additional store. */
const placeOf = async (layout: Layout, additional: readonly string[], diffId: DiffId): Promise<string | undefined> => {
  for (const { layers } of [layout, ...additional.map((root) => layoutOf(root))]) {
    const directory = join(layers, nameOf(diffId))
    if (await isThere(directory)) return directory
  }
  return undefined
}

const checkStacks = async (
  { layout, linux, stacks, mounts, additional }: CheckInput,
  damaged: ReadonlySet<string>,
): Promise<Finding[]> => {
  const findings: Finding[] = []
  for (const { id, path, layers } of stacks) {
    // The damage of a layer is said once.
    if (layers.some((diffId) => damaged.has(diffId))) continue
    const places = await Promise.all(layers.map((diffId) => placeOf(layout, additional, diffId)))
    const trees = places.flatMap((place) => (place === undefined ? [] : [treeIn(place)]))
    const why =
      (await whyUnfounded(layout, additional, layers)) ?? (mounts ? whyUnmountable(layout, linux, trees) : undefined)
    if (why !== undefined) findings.push({ kind: 'image', id, path, why, remedy: 'fetch again' })
  }
  return findings
}

/** Mounts the layers and unmounts them in the same tick, at the place that a start would free if it came to that. */
const whyUnmountable = (layout: Layout, linux: Linux, trees: readonly string[]): string | undefined => {
  const lower = [...new Set(trees)].reverse()
  try {
    // Overlayfs wants two of them.
    linux.mountOverlay({ lower: [layout.empty, ...lower], target: layout.mapped, options: ['ro'] })
    linux.unmount(layout.mapped, { detach: true })
    return undefined
  } catch (error) {
    return `cannot be mounted: ${messageOf(error)}`
  }
}

const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  )
