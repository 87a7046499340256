import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { type ErrorKind, isKind } from '#proto/errors.ts'
import { type ArchiveEntry, dockerEntries, layoutEntries, tarOf, writeLayout } from '../testing/archives.ts'
import { type BuiltImage, buildImage, buildLayer } from '../testing/image-builder.ts'
import { TestImages, testConfig } from '../testing/test-images.ts'
import { DOCKER_LIST_FILE } from './docker-archive.ts'

suite('loading images', () => {
  let dir: string
  let one: BuiltImage
  let two: BuiltImage
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'cricket-load-'))
    const shared = await buildLayer({ 'etc/shared': 'in both' })
    one = buildImage({ layers: [shared, await buildLayer({ 'etc/one': 'first' })] })
    two = buildImage({ layers: [shared, await buildLayer({ 'etc/two': 'second' })], config: { Cmd: ['two'] } })
  })
  after(() => rm(dir, { recursive: true }))

  const file = async (name: string, content: Buffer): Promise<string> => {
    const path = join(dir, name)
    await writeFile(path, content)
    return path
  }
  const named = () => [
    { image: one, name: 'registry.test/one:1' },
    { image: two, name: 'two' },
  ]
  const forms: [string, () => Promise<Buffer>][] = [
    ['an OCI archive', () => tarOf(layoutEntries(named()))],
    [
      'an OCI archive with "./" before its names',
      () => tarOf(layoutEntries(named()).map((each) => ({ ...each, name: `./${each.name}` }))),
    ],
    ['a docker archive', () => tarOf(dockerEntries(named()))],
  ]
  const packings: [string, (bytes: Buffer) => Buffer][] = [
    ['plain', (bytes) => bytes],
    ['gzip', (bytes) => gzipSync(bytes)],
    ['zstd', (bytes) => zstdCompressSync(bytes)],
  ]
  for (const [form, build] of forms) {
    for (const [packing, compress] of packings) {
      test(`out of ${form}, ${packing}, gives what was saved, by its names`, async () => {
        const path = await file('images.tar', compress(await build()))
        await using here = await TestImages.open()
        const loaded = await here.images.load({ path })
        assert.deepEqual(
          loaded.map(({ id, repoTags, pinned }) => [id, repoTags, pinned]),
          [
            [one.id, ['registry.test/one:1'], false],
            [two.id, ['docker.io/library/two:latest'], false],
          ],
        )
        const [, second] = loaded[1]?.diffIds ?? []
        const layer = here.storage.layers.get(second ?? assert.fail())
        assert.equal(await readFile(join(layer?.path ?? '', 'etc/two'), 'utf8'), 'second')
        assert.equal(here.images.resolve('two')?.id, two.id)
        assert.ok(loaded.every(({ repoDigests }) => repoDigests.length > 0))
        assert.deepEqual(
          (await readdir(join(here.directory, 'images'))).filter((name) => name.endsWith('.tmp')),
          [],
        )
        assert.deepEqual(here.images.operations(), [])
      })
    }
  }

  test('out of what tools write that compress the layers of a docker archive', async () => {
    const entries = [
      { name: 'config', content: one.blobs.get(one.id) ?? '' },
      ...one.layers.map(({ bytes }, index) => ({ name: `${index}.tar.gz`, content: bytes })),
      {
        name: DOCKER_LIST_FILE,
        content: JSON.stringify([{ Config: 'config', RepoTags: ['a:1'], Layers: ['0.tar.gz', '1.tar.gz'] }]),
      },
    ]
    await using here = await TestImages.open()
    const [loaded] = await here.images.load({ path: await file('crane.tar', await tarOf(entries)) })
    assert.equal(loaded?.id, one.id)
  })

  test('gives a name to one that has none, and only then', async () => {
    const path = await file('unnamed.tar', await tarOf(layoutEntries([{ image: one }])))
    await using here = await TestImages.open()
    const [plain] = await here.images.load({ path })
    assert.deepEqual([plain?.repoTags, plain?.repoDigests], [[], []])
    const [loaded] = await here.images.load({ path, name: 'app:7', pin: true })
    assert.deepEqual([loaded?.repoTags, loaded?.pinned], [['docker.io/library/app:7'], true])
    await refused(here.images.load({ path, name: 'A B' }), 'invalid-argument', /not an image name/)
    const other = await file('named.tar', await tarOf(layoutEntries(named())))
    await refused(here.images.load({ path: other, name: 'x' }), 'invalid-argument', /names its images itself/)
    await writeLayout(join(dir, 'layout'), [{ image: two }])
    const [fromDirectory] = await here.images.load({ path: join(dir, 'layout'), name: 'two:2' })
    assert.deepEqual(fromDirectory?.repoTags, ['docker.io/library/two:2'])
  })

  test('asks the policy for files of that kind, and what came so may run', async () => {
    const path = await file('policy.tar', await tarOf(dockerEntries(named())))
    const policyFile = join(dir, 'policy.json')
    const accept = { '': [{ type: 'insecureAcceptAnything' }] }
    const write = (transports: object) =>
      writeFile(policyFile, JSON.stringify({ default: [{ type: 'reject' }], transports }))
    await write({ 'docker-archive': accept })
    await using here = await TestImages.open({ config: { signatures: { ...testConfig.signatures, policyFile } } })
    const [loaded = assert.fail()] = await here.images.load({ path })
    await here.images.authorize(loaded, { name: 'registry.test/one:1' })
    await write({ 'oci-archive': accept, docker: { 'docker.io': accept[''] } })
    await refused(here.images.load({ path }), 'signature-validation-failed', /"docker-archive" may not be loaded/)
    await refused(
      here.images.authorize(loaded, { name: 'registry.test/one:1' }),
      'signature-validation-failed',
      /rejects it/,
    )
  })

  const refused = (attempt: Promise<unknown>, kind: ErrorKind, why: RegExp): Promise<void> =>
    assert.rejects(attempt, (error) => {
      assert.ok(isKind(error, kind), String(error))
      assert.match(error.message, why)
      return true
    })

  const layout = () => layoutEntries([{ image: one, name: 'a:1' }])
  const withEntry = (entry: ArchiveEntry) => (): Promise<Buffer> => tarOf([...layout(), entry])
  const hostile: [string, () => Promise<Buffer>, ErrorKind, RegExp][] = [
    [
      'something else than an archive',
      async () => Buffer.from('x'.repeat(2000)),
      'failed-precondition',
      /Archive|header|checksum/i,
    ],
    ['an archive without images', () => tarOf([{ name: 'a', content: 'b' }]), 'failed-precondition', /is no image/],
    ['a file twice', withEntry({ name: 'index.json', content: '{}' }), 'failed-precondition', /"index.json" twice/],
    [
      'a file twice, spelt differently',
      withEntry({ name: './index.json', content: '{}' }),
      'failed-precondition',
      /twice/,
    ],
    [
      'a name that leads out',
      withEntry({ name: '../../etc/passwd', content: 'x' }),
      'failed-precondition',
      /leads out/,
    ],
    ['an absolute name', withEntry({ name: '/etc/passwd', content: 'x' }), 'failed-precondition', /leads out/],
    [
      'a link out of it',
      withEntry({ name: 'a/l', type: 'symlink', linkname: '../../x' }),
      'failed-precondition',
      /leads out/,
    ],
    [
      'an absolute link',
      withEntry({ name: 'l', type: 'symlink', linkname: '/etc/passwd' }),
      'failed-precondition',
      /leads out/,
    ],
    [
      'a link to nothing',
      withEntry({ name: 'l', type: 'symlink', linkname: 'gone' }),
      'failed-precondition',
      /to no file of its own/,
    ],
    [
      'a hard link out of it',
      withEntry({ name: 'l', type: 'link', linkname: '../x' }),
      'failed-precondition',
      /leads out/,
    ],
    [
      'a link in place of a blob',
      () =>
        tarOf(
          layout().map((each) =>
            each.name.startsWith('blobs/') ? { name: each.name, type: 'symlink', linkname: '../../oci-layout' } : each,
          ),
        ),
      'failed-precondition',
      /does not have its digest|has \d+ bytes/,
    ],
    [
      'a device',
      withEntry({ name: 'd', type: 'character-device', devmajor: 1, devminor: 3 }),
      'failed-precondition',
      /device or pipe/,
    ],
    ['half of itself', async () => (await tarOf(layout())).subarray(0, -1500), 'failed-precondition', /truncated/],
    [
      'bytes that do not have their digest',
      () =>
        tarOf(
          layout().map((each) =>
            each.content.equals(one.layers[1]?.bytes ?? Buffer.alloc(0))
              ? { ...each, content: Buffer.alloc(each.content.length) }
              : each,
          ),
        ),
      'failed-precondition',
      /digest|is not in|No file/,
    ],
    [
      'an index that is too large',
      () =>
        tarOf(
          layout().map((each) =>
            each.name === 'index.json' ? { ...each, content: Buffer.alloc(5 * 2 ** 20, 0x20) } : each,
          ),
        ),
      'resource-exhausted',
      /larger than/,
    ],
    [
      'a blob that is missing',
      () => tarOf(layout().filter(({ content }) => !content.equals(one.bytes))),
      'failed-precondition',
      /No file/,
    ],
    [
      'too many files',
      () => tarOf(Array.from({ length: 20_001 }, (_, index) => ({ name: `f${index}` }))),
      'resource-exhausted',
      /more than 20000 entries/,
    ],
    [
      'broken gzip',
      async () => Buffer.concat([gzipSync(await tarOf(layout())).subarray(0, 500), Buffer.alloc(500, 1)]),
      'failed-precondition',
      /cannot be decompressed/,
    ],
    [
      'images for another machine',
      () => tarOf(layoutEntries([{ image: buildImage({ os: 'plan9' }) }])),
      'failed-precondition',
      /is for plan9/,
    ],
    [
      'a docker archive with other layers than its config says',
      () =>
        tarOf(
          dockerEntries([{ image: one }]).map((each) =>
            each.name.endsWith('layer.tar') ? { ...each, content: Buffer.alloc(1024) } : each,
          ),
        ),
      'failed-precondition',
      /digest/,
    ],
    [
      'a docker archive that names files which it does not have',
      () => tarOf([{ name: 'manifest.json', content: '[{"Config":"/etc/passwd","Layers":[]}]' }]),
      'failed-precondition',
      /No file "\/etc\/passwd"/,
    ],
  ]
  for (const [what, build, kind, why] of hostile) {
    test(`refuses ${what}, and leaves nothing`, async () => {
      const path = await file('hostile.tar', await build())
      await using here = await TestImages.open()
      await refused(here.images.load({ path }), kind, why)
      assert.deepEqual(here.images.list(), [])
      assert.deepEqual(
        (await readdir(join(here.directory, 'images'))).filter((name) => name.endsWith('.tmp')),
        [],
      )
    })
  }

  test('refuses what is not there or no file', async () => {
    await using here = await TestImages.open()
    await refused(here.images.load({ path: join(dir, 'gone') }), 'not-found', /no file or directory/)
    await refused(here.images.load({ path: '/dev/null' }), 'failed-precondition', /neither a file nor a directory/)
  })

  test('ends with whoever asked for it', async () => {
    const path = await file('ended.tar', gzipSync(await tarOf(layout())))
    await using here = await TestImages.open()
    const gone = new AbortController()
    gone.abort(new Error('nobody waits'))
    await assert.rejects(here.images.load({ path }, gone.signal), /nobody waits|abort/i)
    assert.deepEqual(here.images.list(), [])
  })
})
