/**
 * Everything that pulling, moving a tag, asking a policy anew and removing do to a disk, so that it can be told again after a crash at any place; and
 * what is true after the crash and in the end. The registry and the policy belong to who tells. For tests.
 */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { linux } from '#linux/linux.ts'
import { messageOf } from '#proto/errors.ts'
import { silentLog } from '#proto/log.ts'
import { openStorage, type Storage } from '#storage/storage.ts'
import { describeTree } from '#storage/testing/temporary-storage.ts'
import { type Images, openImages } from '../image-store.ts'
import { quickTiming, testConfig } from './test-images.ts'

/** What the teller of a story can ask for, and is told. */
export interface CrashScene {
  readonly policyFile: string
  /** "127.0.0.1:5000/app:v1" */
  readonly name: string
  /** Has the tag mean another image from now on, or its signatures be others. */
  serve(what: 'first' | 'second' | 'second, signed again'): Promise<void>
  /** What is so from now on, whatever happens. */
  told(what: string): Promise<void>
}

export interface OpenForStory {
  readonly images: Images
  readonly storage: Storage
  close(): Promise<void>
}

export const openForStory = async (root: string, policyFile: string): Promise<OpenForStory> => {
  const quick = { ...linux, syncfs: async () => {} }
  const storage = await openStorage({ root: join(root, 'storage'), linux: quick, log: silentLog })
  const images = await openImages({
    storage,
    root: join(root, 'images'),
    linux,
    log: silentLog,
    inUse: () => false,
    timing: quickTiming,
    config: { ...testConfig, signatures: { ...testConfig.signatures, policyFile } },
  })
  const close = async (): Promise<void> => {
    await images.close()
    await storage.trashEmptied()
    await storage.close()
  }
  return { images, storage, close }
}

/** Repeatable, on whatever an earlier telling left. */
export const tellCrashStory = async (root: string, scene: CrashScene): Promise<void> => {
  const { images, close } = await openForStory(root, scene.policyFile)
  const pull = async (what: Parameters<CrashScene['serve']>[0]): Promise<void> => {
    await scene.serve(what)
    await scene.told(`pulling ${what}`)
    await images.pull({ reference: scene.name })
    await scene.told(`pulled ${what}`)
  }
  const first = await pull('first').then(() => images.resolve(scene.name)?.id ?? '')
  await pull('second')
  await pull('second, signed again')
  await images.remove(first)
  await images.collectGarbage()
  await close()
}

/** What can be seen after a crash: whole images whose signatures are good, and a tag that means what it meant, or what it was just to mean. */
export const judgeCrashed = async (
  root: string,
  { policyFile, name }: CrashScene,
  mayMean: readonly (string | undefined)[],
): Promise<string[]> => {
  const { images, storage, close } = await openForStory(root, policyFile)
  const wrong: string[] = []
  const look = async (when: string): Promise<void> => {
    const meant = images.resolve(name)?.id
    if (!mayMean.includes(meant)) wrong.push(`${when} the tag means ${meant}`)
    for (const { image } of images.incomplete()) wrong.push(`${when} "${image.id}" misses a layer`)
    for (const image of images.list()) {
      for (const diffId of image.diffIds) if (!storage.layers.has(diffId)) wrong.push(`${when} "${diffId}" is missing`)
      await images
        .authorize(image, { name: '' })
        .catch((error) => wrong.push(`${when} "${image.id}" is refused: ${messageOf(error)}`))
    }
  }
  await look('at the start')
  await images.collectGarbage()
  await look('after a collection')
  await close()
  return wrong
}

/** All that is there once a story was told to its end, but for what is nowhere twice the same: times, revisions, ids. */
export const looksOf = async (root: string, { policyFile }: CrashScene): Promise<string[]> => {
  const { images, storage, close } = await openForStory(root, policyFile)
  const { findings, withoutManifest } = await storage.check([])
  const looks = [
    ...images.list().flatMap(({ id, repoTags, diffIds }) => [id, ...repoTags, ...diffIds]),
    ...storage.layers.list().flatMap(({ diffId, path }) => [diffId, ...describeTree(path)]),
    ...findings.map(({ path, why }) => `${path} ${why}`),
    `${withoutManifest} layers without a manifest`,
    `takes ${JSON.stringify(storage.usage().images.inodes)} inodes`,
  ].sort()
  await close()
  for (const place of ['images', 'images/signatures', 'images/quarantine', ...PLACES.map((name) => `storage/${name}`)])
    looks.push(`${place}: ${namesIn(join(root, place)).join(' ')}`)
  for (const name of readdirSync(root, { recursive: true, encoding: 'utf8' }))
    if (name.endsWith('.tmp')) looks.push(`"${name}" is left`)
  for (const { mountpoint } of linux.readMountInfo())
    if (mountpoint.startsWith(`${root}/`)) looks.push(`"${mountpoint}" is mounted`)
  return looks
}

const PLACES = ['blobs', 'partial-blobs', 'layers', 'fix-ups', 'copies', 'temp', 'trash', 'quarantine', 'mapped']

const namesIn = (directory: string): string[] => (existsSync(directory) ? readdirSync(directory).sort() : [])
