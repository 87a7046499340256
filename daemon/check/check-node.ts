/** What a check looks at altogether, and what a repair does: in the daemon, or, when none runs, in place of it. */
import { checkImages } from '#image/check-images.ts'
import { ImageRecords } from '#image/image-records.ts'
import { linux } from '#linux/linux.ts'
import { silentLog } from '#proto/log.ts'
import { checkClosedStorage } from '#storage/check/check-closed.ts'
import type { Checked, Finding } from '#storage/check/finding.ts'
import { openStorage } from '#storage/storage.ts'
import { ContainerId, SandboxId } from '../ids.ts'
import type { Parts } from '../parts.ts'
import type { Paths } from '../paths.ts'
import { findUnowned, type SweepNeeds, sweepDirectories, sweepRootfs } from '../recovery/sweep.ts'
import type { storageOptions } from '../storage-options.ts'
import { checkRecords } from './check-records.ts'

export interface CheckReport extends Checked {
  /** Whether the remedies were applied. */
  readonly repaired: boolean
  /** Names of images that are incomplete until they are pulled again. */
  readonly pullAgain: readonly string[]
}

type NodeNeeds = SweepNeeds & Pick<Parts, 'images'>

/** In the daemon. */
export async function checkNode(needs: NodeNeeds, repair: boolean, signal: AbortSignal): Promise<CheckReport> {
  const { containers, images, paths, sandboxes, storage } = needs
  const records = await checkRecordsAndImages(paths)
  const unowned = await findUnowned(needs)
  const checked = await storage.check(records.stacks, signal)
  const findings = [...checked.findings, ...records.findings, ...unowned]
  if (repair) {
    await storage.repair(findings)
    await images.repair(findings)
    for (const { id } of findings.filter(({ kind }) => kind === 'record')) {
      const [container, sandbox] = [ContainerId.safeParse(id).data, SandboxId.safeParse(id).data]
      if (container) await containers.rewrite(container)
      if (sandbox) await sandboxes.rewrite(sandbox)
    }
    if (unowned.length > 0) {
      await sweepDirectories(needs)
      await sweepRootfs(needs)
    }
  }
  const pullAgain = images
    .incomplete()
    .flatMap(({ image }) => nameOf(image.id, [...image.repoTags, ...image.repoDigests]))
  return { ...checked, findings, looked: { ...checked.looked, records: records.looked }, repaired: repair, pullAgain }
}

type Options = ReturnType<typeof storageOptions>

/** Without a daemon. What a start does anyway is done by a repair, too; records of pods wait for that start. */
export async function checkOffline(paths: Paths, options: Options, repair: boolean): Promise<CheckReport> {
  const records = await checkRecordsAndImages(paths)
  const checked = await checkClosedStorage({ root: paths.storage, ...options, linux, stacks: records.stacks })
  const findings = [...(checked?.findings ?? []), ...records.findings]
  if (repair && findings.length > 0) await repairOffline(paths, options, findings)
  const gone = new Set(findings.map(({ id }) => id))
  const pullAgain = records.stacks
    .filter(({ id, layers }) => gone.has(id) || layers.some((diffId) => gone.has(diffId)))
    .flatMap(({ id, names }) => nameOf(id, names))
  return {
    findings,
    looked: { ...(checked?.looked ?? { layers: 0, blobs: 0, rootfs: 0, images: 0 }), records: records.looked },
    withoutManifest: checked?.withoutManifest ?? 0,
    repaired: repair,
    pullAgain,
  }
}

async function repairOffline(paths: Paths, options: Options, findings: readonly Finding[]): Promise<void> {
  const storage = await openStorage({ root: paths.storage, ...options, linux, log: silentLog })
  try {
    await storage.repair(findings)
    const isComplete = (): boolean => true
    await ImageRecords.open({ root: paths.images, linux, log: silentLog, isComplete })
  } finally {
    await storage.close()
  }
}

async function checkRecordsAndImages(paths: Paths) {
  const images = await checkImages(paths.images)
  const sandboxes = await checkRecords(paths.sandboxRecords)
  const containers = await checkRecords(paths.containerRecords)
  return {
    stacks: images.stacks,
    findings: [...images.findings, ...sandboxes.findings, ...containers.findings],
    looked: sandboxes.looked + containers.looked,
  }
}

const nameOf = (id: string, names: readonly string[]): string => names[0] ?? id
