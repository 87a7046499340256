import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pinnedBy } from './pinned.ts'
import { buildImage } from './testing/image-builder.ts'
import { TestRegistry } from './testing/registry.ts'
import { TestImages } from './testing/test-images.ts'

test('an image is pinned by its repository, its name, its digest, or what stands for them', async () => {
  await using registry = await TestRegistry.start()
  const image = buildImage()
  registry.add('team/app', image, '1.2')
  const name = `${registry.host}/team/app`
  const isPinned = async (...pinned: string[]): Promise<boolean> => {
    await using here = await TestImages.open({ config: { pinned } })
    const record = await here.images.pull({ reference: `${name}:1.2` })
    assert.equal(record.pinned, false, 'what is written down does not change with the configuration')
    return here.images.isPinned(record)
  }
  for (const pattern of [
    name,
    `${name}:1.2`,
    `${name}@${image.digest}`,
    `${registry.host}/*`,
    '*/team/*',
    '*:1.2',
    '*',
  ]) {
    assert.ok(await isPinned('other', pattern), pattern)
  }
  for (const pattern of ['team/app', `${name}:1`, `${registry.host}/team`, 'app*', `${name}?1.2`]) {
    assert.ok(!(await isPinned(pattern)), pattern)
  }
})

test('stars fit what lies between, in order and without sharing', () => {
  const fits = (pattern: string, name: string): boolean =>
    pinnedBy([pattern])({ pinned: false, repoTags: [name], repoDigests: [] })
  assert.ok(fits('a*b*c', 'aXbYc') && fits('a*b*c', 'abc') && fits('a**c', 'ac'))
  assert.ok(!fits('a*b*c', 'acb') && !fits('ab*bc', 'abc') && !fits('a*a', 'a'))
})
