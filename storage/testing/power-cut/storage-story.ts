/** What a storage goes through while its disk is written down: blobs, layers, a fix-up, removals. And what must be true afterwards. For tests. */
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { linux } from '#linux/linux.ts'
import { silentLog } from '#proto/log.ts'
import { decodeManifest } from '../../check/manifest.ts'
import { type DiffId, type Digest, digestOf } from '../../digest.ts'
import { manifestIn, nameOf } from '../../layout.ts'
import { openStorage } from '../../storage.ts'
import { archive, dir, file, symlink } from '../../tar/testing/tarsmith.ts'
import { describeTree, diffIdOf, inPieces } from '../temporary-storage.ts'
import type { Recording } from './record-writes.ts'

const base = archive(
  dir('etc'),
  file('etc/passwd', 'root:x:0:0'),
  file('bin/sh', 'x'.repeat(3000)),
  symlink('sh', 'bin/sh'),
)
const app = archive(file('bin/app', 'y'.repeat(1500)), file('etc/app.conf', 'key=1'))
const extra = archive(file('srv/data', 'z'.repeat(700)))

/** By diff id: what a whole layer looks like. */
export type Looks = Map<DiffId, string>

/** Without modes and owners, which the writing down leaves out. */
const looksOf = (path: string): string =>
  describeTree(path)
    .map((line) => line.replace(/ [0-7]{4} \d+:\d+/, ''))
    .join('\n')

const quiet = { linux: { ...linux, syncfs: async () => {} }, log: silentLog }

/** @param root exists and is empty */
export const tellStory = async (root: string, { linux: recorded, told }: Recording): Promise<Looks> => {
  const storage = await openStorage({ root: join(root, 'storage'), linux: recorded, log: silentLog })
  const looks: Looks = new Map()
  const put = async (bytes: Buffer): Promise<Digest> => {
    const digest = digestOf(bytes)
    await storage.blobs.put(digest, inPieces(bytes, 1024), { size: bytes.length })
    told(`has ${digest}`)
    return digest
  }
  const unpack = async (bytes: Buffer): Promise<DiffId> => {
    const { diffId, path } = await storage.layers.unpack({ diffId: diffIdOf(bytes), blob: await put(bytes) })
    told(`has ${diffId} unpacked`)
    looks.set(diffId, looksOf(path))
    return diffId
  }
  const [lower, upper] = [await unpack(base), await unpack(app)]
  const gone = await unpack(extra)
  await storage.check([])
  told(`drops ${digestOf(app)}`)
  await storage.blobs.remove(digestOf(app))
  told(`drops ${gone} unpacked`)
  await storage.layers.remove(gone)
  await storage.trashEmptied()
  await storage.rootfs.create({ id: 'c', layers: [lower, upper], mountpoint: join(root, '../mount') })
  await storage.rootfs.remove('c')
  told(`drops ${upper} unpacked`)
  await storage.collectGarbage({ keep: new Set([lower]) })
  await storage.trashEmptied()
  await storage.close()
  return looks
}

/** Two layers, one of which is ready when the sync for the other has begun. */
export const tellOfTwoAtOnce = async (root: string, recording: Recording): Promise<Looks> => {
  const { linux: recorded, log, told } = recording
  const [asked, answered] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const syncfs = async (): Promise<void> => {
    const before = log.length
    asked.resolve()
    await answered.promise
    recording.synced(before)
  }
  const storage = await openStorage({ root: join(root, 'storage'), linux: { ...recorded, syncfs }, log: silentLog })
  const looks: Looks = new Map()
  const unpack = async (bytes: Buffer): Promise<void> => {
    const blob = digestOf(bytes)
    const { diffId, path } = await storage.layers.unpack({ diffId: diffIdOf(bytes), blob })
    told(`has ${diffId} unpacked`)
    looks.set(diffId, looksOf(path))
  }
  for (const bytes of [base, app]) await storage.blobs.put(digestOf(bytes), inPieces(bytes), { size: bytes.length })
  const first = unpack(base)
  await asked.promise
  const second = unpack(app)
  const records = () => log.filter(({ what }) => /^rename .*record\.json$/.test(what)).length
  while (records() < 2) await sleep(5)
  // Until it waits for its sync.
  await sleep(50)
  answered.resolve()
  await Promise.all([first, second])
  await storage.close()
  return looks
}

/** Starts on what is there; says what is not as it must be. */
export const judgeStorage = async (root: string, told: ReadonlySet<string>, looks: Looks): Promise<string[]> => {
  mkdirSync(root, { recursive: true })
  const storage = await openStorage({ root: join(root, 'storage'), ...quiet })
  try {
    const { blobs, layers } = storage
    const wrong = [...layers.list()].flatMap(({ diffId, path }) =>
      looksOf(path) === looks.get(diffId) ? [] : [`layer "${diffId}" is not whole`],
    )
    for (const { diffId } of layers.list()) {
      const manifest = manifestIn(join(root, 'storage/layers', nameOf(diffId)))
      if (existsSync(manifest)) decodeManifest(readFileSync(manifest))
    }
    for (const digest of blobs.list())
      await blobs.read(digest, { maxBytes: 1e6 }).catch(() => wrong.push(`blob "${digest}" is damaged`))
    const there = new Set<string>([...blobs.list(), ...layers.list().map(({ diffId }) => `${diffId} unpacked`)])
    for (const what of told) {
      const name = /^has (.*)/.exec(what)?.[1]
      if (name !== undefined && !told.has(`drops ${name}`) && !there.has(name)) wrong.push(`"${name}" is lost`)
    }
    for (const place of ['temp', 'quarantine'])
      for (const name of readdirSync(join(root, 'storage', place))) wrong.push(`${place} holds "${name}"`)
    return wrong
  } finally {
    await storage.close()
  }
}
