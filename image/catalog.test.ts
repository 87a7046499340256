import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { isKind } from '#proto/errors.ts'
import { parseDigest } from '#storage/digest.ts'
import { Catalog } from './catalog.ts'
import { imageIdOf } from './image-id.ts'
import type { ImageRecord, RunnableImage } from './image-record.ts'

const idOf = (start: string): string => `sha256:${start.padEnd(64, '0')}`
const manifest = parseDigest(idOf('111'))

const image = (start: string, names: Partial<RunnableImage> = {}): ImageRecord => ({
  kind: 'image',
  id: imageIdOf(parseDigest(idOf(start))),
  repoTags: [],
  repoDigests: [],
  sizeBytes: 1n,
  diffIds: [],
  layerBlobs: [],
  config: {
    user: '',
    env: [],
    entrypoint: [],
    cmd: [],
    workingDir: '',
    stopSignal: '',
    labels: {},
    volumes: [],
    exposedPorts: [],
    architecture: '',
    os: '',
  },
  manifestDigest: manifest,
  pinned: false,
  pulledAt: '2024-01-01T00:00:00Z',
  ...names,
})

const busybox = image('cafe1', {
  repoTags: ['docker.io/library/busybox:latest', 'r.example/b:1'],
  repoDigests: [`docker.io/library/busybox@${manifest}`],
})
const cafe = image('abcd', { repoTags: ['docker.io/library/cafe:latest'] })
const catalog = new Catalog([busybox, cafe, image('ffff1'), image('ffff2')])

suite('catalog', () => {
  const found: [text: string, id: string | undefined][] = [
    [busybox.id, busybox.id],
    [busybox.id.slice(7), busybox.id],
    ['busybox', busybox.id],
    ['busybox:latest', busybox.id],
    ['docker.io/busybox', busybox.id],
    ['docker.io/library/busybox:latest', busybox.id],
    ['r.example/b:1', busybox.id],
    [`busybox@${manifest}`, busybox.id],
    [`busybox:other@${manifest}`, busybox.id],
    [`busybox@${busybox.id}`, busybox.id],
    ['cafe1', busybox.id],
    ['sha256:cafe1', busybox.id],
    ['cafe', cafe.id],
    ['abcd', cafe.id],
    ['ffff1', idOf('ffff1')],
    ['abc', undefined],
    ['abce', undefined],
    ['r.example/b', undefined],
    [`r.example/c@${manifest}`, undefined],
    [`r.example/c@${busybox.id}`, undefined],
    [manifest, undefined],
    ['', undefined],
    ['NO NAME', undefined],
    ['__proto__', undefined],
  ]
  for (const [text, id] of found) {
    test(`finds ${id?.slice(0, 14) ?? 'nothing'} for ${JSON.stringify(text)}`, () =>
      assert.equal(catalog.find(text)?.id, id))
  }

  test('does not guess between several', () => {
    assert.throws(
      () => catalog.find('ffff'),
      (error) => isKind(error, 'invalid-argument'),
    )
  })

  test('finds each image by each of its names, and by what nobody else begins with, for any set of images', () => {
    const hex = fc.stringMatching(/^[0-9a-f]{5}$/)
    const tag = fc.constantFrom('r.example/a:1', 'r.example/b:1', 'docker.io/library/c:latest', 'r.example:5000/d/e:2')
    const item = fc.record({ id: hex, tags: fc.uniqueArray(tag, { maxLength: 3 }) })
    fc.assert(
      fc.property(fc.uniqueArray(item, { selector: ({ id }) => id, maxLength: 5 }), fc.string(), (items, text) => {
        const taken = new Set<string>()
        const images = items.map(({ id, tags }) => {
          const repoTags = tags.filter((each) => !taken.has(each))
          for (const each of repoTags) taken.add(each)
          return image(id, { repoTags })
        })
        const all = new Catalog(images)
        for (const each of images) {
          for (const name of [each.id, each.id.slice(7), ...each.repoTags]) assert.equal(all.find(name)?.id, each.id)
          const short = each.id.slice(7, 11)
          const rivals = images.filter(({ id }) => id.startsWith(`sha256:${short}`))
          if (rivals.length === 1) assert.equal(all.find(short)?.id, each.id)
          else
            assert.throws(
              () => all.find(short),
              (error) => isKind(error, 'invalid-argument'),
            )
        }
        const found = all.find(text)
        assert.ok(found === undefined || images.includes(found))
      }),
    )
  })
})
