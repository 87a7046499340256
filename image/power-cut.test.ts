/** Images after power cuts: a pull, a tag that moves, removals, collections. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { linux } from '#linux/linux.ts'
import { silentLog } from '#proto/log.ts'
import { openStorage } from '#storage/storage.ts'
import { recordStory } from '#storage/testing/power-cut/record-story.ts'
import type { Recording } from '#storage/testing/power-cut/record-writes.ts'
import { forgetting, tryStates } from '#storage/testing/power-cut/try-states.ts'
import { describeTree } from '#storage/testing/temporary-storage.ts'
import { openImages } from './image-store.ts'
import { buildImage, buildLayer } from './testing/image-builder.ts'
import { TestRegistry } from './testing/registry.ts'
import { quickTiming, testConfig } from './testing/test-images.ts'

const openAt = async (root: string, at = linux) => {
  const storage = await openStorage({ root: join(root, 'storage'), linux: at, log: silentLog })
  const images = await openImages({
    storage,
    root: join(root, 'images'),
    linux: at,
    log: silentLog,
    inUse: () => false,
    timing: quickTiming,
    config: testConfig,
  })
  const close = async (): Promise<void> => {
    await images.close()
    await storage.close()
  }
  return { storage, images, close }
}

const looksOf = (path: string): string =>
  describeTree(path)
    .map((line) => line.replace(/ [0-7]{4} \d+:\d+/, ''))
    .join('\n')

interface Told {
  readonly name: string
  readonly first: string
  readonly second: string
  readonly looks: Map<string, string>
}

const tellStory = async (root: string, recording: Recording): Promise<Told> => {
  await using registry = await TestRegistry.start()
  const shared = await buildLayer({ 'etc/os': 'shared', 'bin/sh': 'x'.repeat(900) })
  const [old, fresh] = [await buildLayer({ app: 'old' }), await buildLayer({ app: 'new', 'lib/a': 'y' })]
  const first = buildImage({ layers: [shared, old] })
  const second = buildImage({ layers: [shared, fresh] })
  const name = `${registry.host}/app:v1`
  const { images, storage, close } = await openAt(root, recording.linux)
  const looks = new Map<string, string>()
  const pull = async (image: typeof first, what: string): Promise<void> => {
    registry.add('app', image, 'v1')
    recording.told(`pulling ${what}`)
    await images.pull({ reference: name })
    recording.told(`pulled ${what}`)
    for (const { diffId, path } of storage.layers.list()) looks.set(diffId, looksOf(path))
  }
  await pull(first, 'first')
  await pull(second, 'second')
  recording.told('removing first')
  await images.remove(first.id)
  recording.told('removed first')
  await storage.trashEmptied()
  recording.told('removing second')
  await images.remove(second.id)
  recording.told('removed second')
  await storage.trashEmptied()
  await close()
  return { name, first: first.id, second: second.id, looks }
}

/** Which image the name may mean, given what was told; undefined: none. */
const mayMean = (told: ReadonlySet<string>, { first, second }: Told): (string | undefined)[] => {
  if (told.has('removed second')) return [undefined]
  if (told.has('removing second')) return [second, undefined]
  if (told.has('pulled second')) return [second]
  if (told.has('pulling second')) return [first, second]
  return told.has('pulled first') ? [first] : [first, undefined]
}

const judge = async (root: string, told: ReadonlySet<string>, story: Told): Promise<string[]> => {
  const { images, storage, close } = await openAt(root, { ...linux, syncfs: async () => {} })
  try {
    const wrong: string[] = []
    const check = (when: string): void => {
      const means = images.resolve(story.name)?.id
      if (!mayMean(told, story).includes(means)) wrong.push(`${when} the tag means ${means}`)
      if (told.has('removed first') && images.resolve(story.first)) wrong.push(`${when} a removed image is back`)
      for (const { image } of images.incomplete()) wrong.push(`${when} "${image.id}" misses a layer`)
      for (const { diffIds } of images.list())
        for (const diffId of diffIds)
          if (looksOf(storage.layers.get(diffId)?.path ?? root) !== story.looks.get(diffId))
            wrong.push(`${when} layer "${diffId}" is not whole`)
    }
    check('at start')
    await images.collectGarbage()
    check('after a collection')
    const needed = new Set<string>(images.list().flatMap(({ diffIds }) => diffIds))
    const extra = storage.layers.list().filter(({ diffId }) => !needed.has(diffId))
    return [...wrong, ...extra.map(({ diffId }) => `layer "${diffId}" is left over`)]
  } finally {
    await close()
  }
}

const { recording, result: story } = await recordStory({ after }, tellStory)

describe('images whose power is cut', () => {
  it('are whole or not there, and a tag means the old or the new', async (t) => {
    const tried = await tryStates(recording, { perCut: 5, seed: 1 }, (root, told) => judge(root, told, story))
    t.diagnostic(`${recording.log.length} changes, ${tried.states} states, ${tried.distinct} of them different`)
    assert.deepEqual(tried.illegal, [])
  })

  for (const [what, pattern] of [
    ['of the names of records', /^sync \/images$/],
    ['of records before their names', /^sync \/images\/\./],
    ['of layers before the record', /^sync (all|\/storage\/layers)$/],
  ] as const)
    it(`would be caught without the sync ${what}`, async (t) => {
      const forgetful = forgetting(recording, (text) => pattern.test(text))
      const { illegal } = await tryStates(
        forgetful,
        { perCut: 8, seed: 1 },
        (root, told) => judge(root, told, story),
        1,
      )
      assert.notDeepEqual(illegal, [])
      t.diagnostic(illegal[0] ?? '')
    })
})
