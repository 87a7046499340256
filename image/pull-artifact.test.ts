import assert from 'node:assert/strict'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { type ErrorKind, isKind } from '#proto/errors.ts'
import { digestOf } from '#storage/digest.ts'
import { writeRecord } from '#storage/record.ts'
import {
  type ArtifactFile,
  buildArtifact,
  buildImage,
  buildIndex,
  buildLayer,
  testHost,
} from './testing/image-builder.ts'
import { TestRegistry } from './testing/registry.ts'
import { TestImages } from './testing/test-images.ts'

const model: ArtifactFile[] = [
  { content: 'weights', title: 'model.bin' },
  { content: 'words', title: 'tokens/vocabulary.txt' },
  { content: 'nameless' },
  { content: '{}', mediaType: 'application/vnd.oci.empty.v1+json' },
]

const treeOf = (here: TestImages, id: string): string => {
  const [diffId] = here.images.resolve(id)?.diffIds ?? []
  return (diffId && here.storage.layers.get(diffId)?.path) ?? assert.fail('no tree')
}

const listed = async (root: string): Promise<string[]> => (await readdir(root, { recursive: true })).sort()

suite('pull of an artifact', () => {
  test('makes its blobs files that nobody can write', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const artifact = buildArtifact(model)
    registry.add('model', artifact, '1')
    const record = await here.images.pull({ reference: `${registry.host}/model:1` })
    assert.equal(record.kind === 'artifact' && record.artifactType, 'application/vnd.test.model')
    assert.equal(record.id, artifact.digest)
    assert.equal(record.sizeBytes, 20n)
    assert.deepEqual(record.repoDigests, [`${registry.host}/model@${artifact.digest}`])
    const root = treeOf(here, record.id)
    const nameless = digestOf('nameless').replace(':', '-')
    assert.deepEqual(await listed(root), ['model.bin', nameless, 'tokens', 'tokens/vocabulary.txt'])
    assert.equal(await readFile(join(root, 'tokens/vocabulary.txt'), 'utf8'), 'words')
    for (const name of ['model.bin', 'tokens/vocabulary.txt', nameless]) {
      const { mode, uid, gid } = await stat(join(root, name))
      assert.deepEqual([mode & 0o7777, uid, gid], [0o444, process.getuid?.(), process.getgid?.()], name)
    }
    assert.equal((await stat(join(root, 'tokens'))).mode & 0o7777, 0o755)
  })

  test('is found behind an index, and keeps archives as they are', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const { bytes } = await buildLayer({ file: 'x' }, 'none')
    const content = bytes.toString('latin1')
    const mediaType = 'application/vnd.oci.image.layer.v1.tar'
    const artifact = buildArtifact([{ content, title: 'data.tar', mediaType }])
    registry.add('model', buildIndex([{ image: artifact, platform: testHost }]), '1')
    const { id } = await here.images.pull({ reference: `${registry.host}/model:1` })
    assert.equal(await readFile(join(treeOf(here, id), 'data.tar'), 'latin1'), content)
  })

  test('is not what an index without an image for this host stands for', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const other = buildImage({ layers: [await buildLayer({ other: '' })], architecture: 'other' })
    const items = [{ image: other, platform: { os: 'linux', architecture: 'other' } }, { image: buildArtifact(model) }]
    registry.add('app', buildIndex(items), '1')
    registry.add('app', buildIndex(items.slice(1)), '2')
    const pull = here.images.pull({ reference: `${registry.host}/app:1` })
    await assert.rejects(pull, (error) => isKind(error, 'failed-precondition'))
    assert.equal((await here.images.pull({ reference: `${registry.host}/app:2` })).kind, 'artifact')
  })

  test('tells artifacts with the same config apart, and fetches what they share once', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    registry.add('model', buildArtifact(model), '1')
    const other = [
      { content: 'weights', title: 'a' },
      { content: 'weights', title: 'b' },
      { content: '', title: 'c' },
    ]
    registry.add('model', buildArtifact(other), '2')
    const references = ['1', '2'].map((tag) => `${registry.host}/model:${tag}`)
    const [first, second] = await Promise.all(references.map((reference) => here.images.pull({ reference })))
    assert.notEqual(first?.id, second?.id)
    assert.equal(here.images.list().length, 2)
    assert.equal(registry.seen(`blobs/${digestOf('weights')}`).length, 1)
    // What one of them has stays when the other one goes.
    await here.images.remove(first?.id ?? '')
    assert.deepEqual(await listed(treeOf(here, second?.id ?? '')), ['a', 'b', 'c'])
    assert.equal(here.storage.layers.list().length, 1)
    await here.images.remove(second?.id ?? '')
    assert.deepEqual(here.storage.layers.list(), [])
    assert.deepEqual(here.storage.blobs.list(), [])
    assert.equal(here.images.fsInfo().images.bytes, 0)
  })

  test('outlives the daemon, and is made again when its files are gone', async () => {
    await using registry = await TestRegistry.start()
    const here = await TestImages.open()
    registry.add('model', buildArtifact(model), '1')
    const reference = `${registry.host}/model:1`
    const record = await here.images.pull({ reference })
    await using again = await TestImages.open({}, await here.stop())
    assert.deepEqual(again.images.resolve(reference), record)
    await again.images.collectGarbage()
    assert.equal(await readFile(join(treeOf(again, record.id), 'model.bin'), 'utf8'), 'weights')
    await again.storage.layers.remove(record.diffIds[0] ?? assert.fail())
    await again.images.pull({ reference })
    assert.equal(await readFile(join(treeOf(again, record.id), 'model.bin'), 'utf8'), 'weights')
    assert.equal(registry.seen('/blobs/').length, 3, 'blobs were fetched again')
  })

  test('keeps what an image with the same blob unpacks', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const layer = await buildLayer({ file: 'x' }, 'none')
    const artifact = buildArtifact([{ content: layer.bytes.toString('latin1'), title: 'layer.tar' }])
    registry.add('mixed', artifact, 'artifact')
    registry.add('mixed', buildImage({ layers: [layer] }), 'image')
    const pulls = ['artifact', 'image'].map((tag) => here.images.pull({ reference: `${registry.host}/mixed:${tag}` }))
    const [made] = await Promise.all(pulls)
    assert.equal(
      await readFile(join(treeOf(here, made?.id ?? ''), 'layer.tar'), 'latin1'),
      layer.bytes.toString('latin1'),
    )
  })

  const refused: [why: string, kind: ErrorKind, files: ArtifactFile[]][] = [
    ...['../up', '/etc/passwd', 'a/../../b', '..', '.', 'a//b', 'a/', './a', 'a\0b', 'a\nb', '\ud800'].map(
      (title): [string, ErrorKind, ArtifactFile[]] => [
        JSON.stringify(title),
        'failed-precondition',
        [{ content: 'evil', title }],
      ],
    ),
    ['a long part', 'failed-precondition', [{ content: 'x', title: 'a'.repeat(256) }]],
    [
      'a long name',
      'failed-precondition',
      [{ content: 'x', title: `${`${'a'.repeat(250)}/`.repeat(4)}${'c'.repeat(30)}` }],
    ],
    ['a deep name', 'failed-precondition', [{ content: 'x', title: `${'a/'.repeat(16)}c` }]],
    ['a name twice', 'failed-precondition', ['one', 'two'].map((content) => ({ content, title: 'same' }))],
    [
      'a file that is a directory',
      'failed-precondition',
      [
        { content: 'x', title: 'a/b/c' },
        { content: 'y', title: 'a/b' },
      ],
    ],
    ['too many blobs', 'resource-exhausted', Array.from({ length: 481 }, (_, index) => ({ content: `${index}` }))],
  ]
  for (const [why, kind, files] of refused) {
    test(`refuses ${why}, before it fetches anything`, async () => {
      await using registry = await TestRegistry.start()
      await using here = await TestImages.open()
      registry.add('evil', buildArtifact(files), '1')
      const pull = here.images.pull({ reference: `${registry.host}/evil:1` })
      await assert.rejects(pull, (error) => isKind(error, kind))
      assert.equal(registry.seen('/blobs/').length, 0)
      assert.deepEqual(here.images.list(), [])
    })
  }

  test('refuses sizes beyond the disk, and bytes of another digest', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const artifact = buildArtifact([{ content: 'weights', title: 'w' }])
    const huge = Buffer.from(artifact.bytes.toString().replace('"size":7', `"size":${2 ** 52}`))
    registry.add('evil', { ...artifact, bytes: huge, digest: digestOf(huge) }, 'huge')
    const pull = here.images.pull({ reference: `${registry.host}/evil:huge` })
    await assert.rejects(pull, (error) => isKind(error, 'resource-exhausted'))
    registry.add('evil', { ...artifact, blobs: new Map([[digestOf('weights'), Buffer.from('weighty')]]) }, 'lie')
    const lie = here.images.pull({ reference: `${registry.host}/evil:lie` })
    await assert.rejects(lie, (error) => isKind(error, 'failed-precondition'))
    assert.deepEqual(here.storage.layers.list(), [])
  })

  test('a record of before there were artifacts is an image', async () => {
    await using registry = await TestRegistry.start()
    const here = await TestImages.open()
    registry.add('app', buildImage({ layers: [await buildLayer({ file: 'x' })] }), '1')
    const record = await here.images.pull({ reference: `${registry.host}/app:1` })
    const [name = ''] = await here.records()
    const path = join(await here.stop(), 'images', name)
    const { kind: _, ...old } = JSON.parse(await readFile(path, 'utf8')).record.image
    await writeRecord(path, { layout: 1, revision: 1, image: old }, { durable: false })
    await using again = await TestImages.open({}, here.directory)
    assert.deepEqual(again.images.resolve(record.id), record)
  })

  test('a document that is a manifest and a configuration cannot turn one into the other', async () => {
    await using registry = await TestRegistry.start()
    await using here = await TestImages.open()
    const artifact = buildArtifact([])
    const both = Buffer.from(
      JSON.stringify({
        ...JSON.parse(artifact.bytes.toString()),
        ...testHost,
        rootfs: { type: 'layers', diff_ids: [] },
      }),
    )
    registry.add('both', { ...artifact, bytes: both, digest: digestOf(both) }, 'artifact')
    const image = buildImage({
      alter: (manifest) => ({
        ...manifest,
        config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: digestOf(both), size: both.length },
      }),
    })
    registry.add('both', { ...image, blobs: new Map([[digestOf(both), both]]) }, 'image')
    const { id } = await here.images.pull({ reference: `${registry.host}/both:artifact` })
    const pull = here.images.pull({ reference: `${registry.host}/both:image` })
    await assert.rejects(pull, (error) => isKind(error, 'failed-precondition'))
    assert.equal(here.images.resolve(id)?.kind, 'artifact')
  })
})
