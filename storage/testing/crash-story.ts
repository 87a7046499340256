/** Everything that a storage does to its disk, so that it can be told again after a crash at any place; and what is true in the end. For tests. */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { linux } from '#linux/linux.ts'
import { silentLog } from '#proto/log.ts'
import { digestOf } from '../digest.ts'
import { openStorage, type Storage } from '../storage.ts'
import { archive, dir, file, hardlink } from '../tar/testing/tarsmith.ts'
import { describeTree, diffIdOf, inPieces } from './temporary-storage.ts'

const kept = archive(dir('etc', { mode: 0o700 }), file('etc/passwd', 'root'), file('bin/sh', 'x'.repeat(300_000)))
const dropped = archive(
  file('etc/app', 'y'.repeat(100_000)),
  ...Array.from({ length: 50 }, (_, n) => file(`srv/f${n}`, 'z')),
  hardlink('etc/link', 'bin/sh'),
)

export const openForStory = (root: string): Promise<Storage> =>
  openStorage({ root: join(root, 'storage'), linux: { ...linux, syncfs: async () => {} }, log: silentLog })

/** Repeatable, on whatever an earlier telling left. */
export const tellCrashStory = async (root: string): Promise<void> => {
  const storage = await openForStory(root)
  await storage.rootfs.remove('c')
  for (const bytes of [kept, dropped]) {
    const digest = digestOf(bytes)
    await storage.blobs.put(digest, inPieces(bytes), { size: bytes.length })
    await storage.layers.unpack({ diffId: diffIdOf(bytes), blob: digest })
    await storage.blobs.remove(digest)
  }
  const layers = [diffIdOf(kept), diffIdOf(dropped)]
  await storage.complete(layers)
  await storage.check([])
  await storage.rootfs.create({ id: 'c', layers, mountpoint: join(root, 'mount') })
  await storage.rootfs.remove('c')
  await storage.collectGarbage({ keep: new Set([diffIdOf(kept)]) })
  await storage.trashEmptied()
  await storage.close()
}

/** What is not as it must be when the story has been told to its end. */
export const judgeCrashStory = async (root: string): Promise<string[]> => {
  const storage = await openForStory(root)
  const wrong: string[] = []
  const layers = storage.layers.list().map(({ diffId, path }) => `${diffId}: ${describeTree(path).length} paths`)
  if (layers.join() !== `${diffIdOf(kept)}: 5 paths`) wrong.push(`layers are ${layers.join()}`)
  const { findings, withoutManifest } = await storage.check([])
  wrong.push(...findings.map(({ path, why }) => `${path} ${why}`))
  if (withoutManifest > 0) wrong.push('a layer has no manifest')
  await storage.trashEmptied()
  await storage.close()
  for (const place of ['blobs', 'partial-blobs', 'fix-ups', 'rootfs', 'temp', 'trash', 'quarantine', 'mapped'])
    for (const name of namesIn(join(root, 'storage', place))) wrong.push(`${place} holds "${name}"`)
  for (const name of readdirSync(join(root, 'storage'), { recursive: true, encoding: 'utf8' }))
    if (name.endsWith('.tmp')) wrong.push(`"${name}" is left`)
  for (const { mountpoint } of linux.readMountInfo())
    if (mountpoint.startsWith(`${root}/`)) wrong.push(`"${mountpoint}" is mounted`)
  return wrong
}

const namesIn = (directory: string): string[] => (existsSync(directory) ? readdirSync(directory) : [])
