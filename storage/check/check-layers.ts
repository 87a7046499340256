/** Looks at layers on the disk: record, tree, and every file of it. Changes nothing. */
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import { messageOf } from '#proto/errors.ts'
import { isDigest } from '../digest.ts'
import { LayerRecord } from '../layer-record.ts'
import { digestText, type Layout, manifestIn, recordIn, treeIn } from '../layout.ts'
import { readRecord } from '../record.ts'
import type { WorkerPool } from '../tar/worker-pool.ts'
import type { Finding } from './finding.ts'

export interface CheckedLayers {
  readonly findings: Finding[]
  readonly looked: number
  readonly withoutManifest: number
}

export const checkLayers = async (
  layout: Layout,
  workers: WorkerPool,
  signal?: AbortSignal,
): Promise<CheckedLayers> => {
  const findings: Finding[] = []
  let withoutManifest = 0
  const names = await readdir(layout.layers)
  for (const name of names) {
    const path = join(layout.layers, name)
    const id = digestText(name)
    if (!isDigest(id)) {
      findings.push({ kind: 'stray', id: name, path, why: 'is not named after a digest', remedy: 'put aside' })
      continue
    }
    const outcome = await checkLayer(path, id, workers, signal)
    if (outcome === 'no manifest') withoutManifest++
    // One that was removed while it was looked at is not damaged.
    else if (outcome !== undefined && (await isThere(path)))
      findings.push({ kind: 'layer', id, path, why: outcome, remedy: 'fetch again' })
  }
  return { findings, looked: names.length, withoutManifest }
}

/** What is wrong with it; undefined: nothing. */
const checkLayer = async (
  directory: string,
  diffId: string,
  workers: WorkerPool,
  signal: AbortSignal | undefined,
): Promise<string | undefined> => {
  const found = await readRecord(recordIn(directory), LayerRecord)
  if (found.is === 'missing') return 'has no record'
  if (found.is === 'damaged') return `record ${found.why}`
  if (found.record.diffId !== diffId) return `has the record of "${found.record.diffId}"`
  const tree = await stat(treeIn(directory)).catch(() => undefined)
  if (!tree?.isDirectory()) return 'has no tree'
  return whyDifferent(directory, workers, signal)
}

/** How the tree differs from its manifest; undefined: it does not. */
export const whyDifferent = async (
  directory: string,
  workers: WorkerPool,
  signal: AbortSignal | undefined,
): Promise<string | undefined> => {
  const manifest = await readFile(manifestIn(directory)).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  })
  if (manifest === undefined) return 'no manifest'
  try {
    const { count, examples } = await workers.run('compare', { directory: treeIn(directory), manifest }, signal)
    return count === 0 ? undefined : `${count} paths differ: ${examples.join('; ')}`
  } catch (error) {
    signal?.throwIfAborted()
    return `cannot be compared with its manifest: ${messageOf(error)}`
  }
}

const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  )
