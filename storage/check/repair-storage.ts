/** Repairs what a check found, one thing at a time: what is damaged is put aside, so that it is fetched or made again. Nothing else is touched. */
import { basename } from 'node:path'
import type { BlobStore } from '../blob-store.ts'
import { parseDiffId, parseDigest } from '../digest.ts'
import type { FixUpStore } from '../fix-up-store.ts'
import type { LayerStore } from '../layer-store.ts'
import { digestText } from '../layout.ts'
import type { Quarantine } from '../quarantine.ts'
import type { Finding } from './finding.ts'

export interface RepairInput {
  readonly findings: readonly Finding[]
  readonly blobs: BlobStore
  readonly layers: LayerStore
  readonly fixUps: FixUpStore
  readonly quarantine: Quarantine
}

export const repairStorage = async ({ findings, blobs, layers, fixUps, quarantine }: RepairInput): Promise<void> => {
  for (const { kind, id, path, why, remedy } of findings) {
    if (kind === 'layer') await layers.quarantine(parseDiffId(id), why)
    if (kind === 'blob') await blobs.quarantine(parseDigest(id), why)
    if (kind === 'fix-up') await fixUps.discard(digestText(basename(path)), why)
    if (kind === 'stray' && remedy === 'put aside') await quarantine.take(path, why)
  }
  await layers.forgetMissing()
}
