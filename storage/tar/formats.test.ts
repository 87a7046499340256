/** Layers in the forms that lazy pullers make, and archives of every kind at random: read whole, or refused; nothing outside changes. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import fc from 'fast-check'
import { RuntimeError } from '#proto/errors.ts'
import { canary, temporaryStorage } from '../testing/temporary-storage.ts'
import { archive, device, dir, END, type Forged, file, forge, hardlink, pax, symlink } from './testing/tarsmith.ts'

const temporary = await temporaryStorage({ after })
const guarded = canary(temporary.directory)

/** A zstd frame that decoders pass over: where zstd:chunked keeps its table of contents. */
const skippable = (content: Buffer, kind = 0x184d2a50): Buffer => {
  const head = Buffer.alloc(8)
  head.writeUInt32LE(kind, 0)
  head.writeUInt32LE(content.length, 4)
  return Buffer.concat([head, content])
}

describe('a layer made for lazy pulling', () => {
  const noise = randomBytes(200_000).toString('latin1')
  const parts = [forge(dir('d')), forge(file('d/noise', noise)), forge(file('last', 'x')), END]
  const tar = Buffer.concat(parts)
  const toc = skippable(Buffer.from('{"version":1,"entries":[]}'))
  const footer = skippable(Buffer.alloc(64), 0x184d2a5f)

  it('zstd:chunked: a frame for each file, skippable frames between and behind', async () => {
    const frames = parts.map((part) => zstdCompressSync(part))
    const { path } = await temporary.unpack(
      tar,
      Buffer.concat([toc, ...frames.slice(0, 2), toc, ...frames.slice(2), toc, footer]),
    )
    assert.equal(readFileSync(join(path, 'd/noise'), 'latin1'), noise)
    assert.equal(readFileSync(join(path, 'last'), 'utf8'), 'x')
  })

  it('estargz: a member for each file, landmark and table of contents are files like others', async () => {
    const toc = [file('.no.prefetch.landmark', '\x0f'), file('stargz.index.json', '{"version":1}')].map(forge)
    const members = [...parts.slice(0, 3), ...toc, END]
    const blob = Buffer.concat([...members.map((part) => gzipSync(part)), gzipSync(Buffer.alloc(0))])
    const { path } = await temporary.unpack(Buffer.concat(members), blob)
    assert.equal(readFileSync(join(path, 'last'), 'utf8'), 'x')
    assert.ok(existsSync(join(path, 'stargz.index.json')))
  })
})

const name = fc.oneof(
  fc.constantFrom(
    'a',
    'b',
    'a/b',
    'a/b/c',
    '../a',
    '/a',
    './b/../a',
    '.wh.a',
    'a/.wh..wh..opq',
    '.',
    '',
    'b/.wh.c',
    'c/',
  ),
  fc.constant(`${guarded.path}/secret`),
  fc.string({ unit: 'binary-ascii', maxLength: 30 }),
)
const target = fc.oneof(name, fc.constantFrom('..', '/', '/etc', '../../../..', '../canary/secret', guarded.path))
const xattr = fc.constantFrom(
  'user.a',
  'user.overlay.opaque',
  'trusted.overlay.redirect',
  'security.capability',
  'security.ima',
)
const entry: fc.Arbitrary<Forged> = fc.oneof(
  fc.record({ name, data: fc.string({ unit: 'binary-ascii', maxLength: 600 }), mode: fc.nat(0o7777) }),
  name.map((path) => dir(path)),
  fc.tuple(name, target).map(([path, to]) => symlink(path, to)),
  fc.tuple(name, target).map(([path, to]) => hardlink(path, to)),
  fc.tuple(name, fc.nat(0x1fff), fc.nat(0x1fffff)).map(([path, major, minor]) => device(path, 'block', major, minor)),
  fc.tuple(name, xattr).map(([path, key]) => pax({ path, [`SCHILY.xattr.${key}`]: 'v' })),
  fc.record({
    name,
    type: fc.string({ unit: 'binary-ascii', minLength: 1, maxLength: 1 }),
    uid: fc.integer(),
    size: fc.nat(2000),
  }),
)

/** `CRICKET_ARCHIVES` says how many; `archives.long.ts` tries many. */
const RUNS = Number(process.env.CRICKET_ARCHIVES ?? 60)

describe('an archive of anything', () => {
  it(`is unpacked or refused in words, and nothing outside changes (${RUNS} archives)`, async () => {
    let refusals = 0
    const cut = fc.option(fc.nat(3000), { nil: undefined, freq: 5 })
    await fc.assert(
      fc.asyncProperty(fc.array(entry, { maxLength: 8 }), cut, async (entries, length) => {
        const tar = archive(...entries).subarray(0, length)
        try {
          const { diffId } = await temporary.unpack(tar)
          await temporary.storage.layers.remove(diffId)
        } catch (error) {
          assert.ok(error instanceof RuntimeError && error.kind === 'failed-precondition', String(error))
          assert.match(error.message, /^(?:Archive|Cannot unpack layer|Cannot set attribute|Layer)/)
          refusals += 1
        }
        assert.deepEqual(guarded.now(), guarded.before)
      }),
      { numRuns: RUNS },
    )
    await temporary.storage.trashEmptied()
    assert.deepEqual(readdirSync(join(temporary.root, 'temp')), [])
    assert.ok(refusals < RUNS, 'none was unpacked')
  })
})
