import assert from 'node:assert/strict'
import { buffer } from 'node:stream/consumers'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { pack } from 'tar-stream'
import { isKind, RuntimeError } from '#proto/errors.ts'
import type { TarEntry } from './entry.ts'
import { EntryReader } from './read-entries.ts'
import {
  archive,
  base256,
  dir,
  END,
  type Forged,
  file,
  forge,
  gnuLong,
  hardlink,
  pax,
  paxRecord,
} from './testing/tarsmith.ts'

interface Read {
  entry: TarEntry
  content: Buffer
}

/** Reads an archive given in chunks of `length` bytes. */
const read = (bytes: Buffer, length = bytes.length || 1, maxHeaders = 1000): Read[] => {
  const entries: Read[] = []
  const reader = new EntryReader(
    {
      begin: (entry) => void entries.push({ entry, content: Buffer.alloc(Math.min(entry.size, 1 << 20)) }),
      data: (data, position) => void data.copy(entries.at(-1)?.content ?? Buffer.alloc(0), position),
      end: () => {},
    },
    maxHeaders,
  )
  for (let at = 0; at < bytes.length; at += length) reader.push(Buffer.from(bytes.subarray(at, at + length)))
  reader.finish()
  return entries
}

const refuses = (bytes: Buffer, kind: 'failed-precondition' | 'resource-exhausted' = 'failed-precondition'): void =>
  assert.throws(
    () => read(bytes),
    (error) => isKind(error, kind),
  )

/** Refused on sight of these bytes, before more is read or kept. */
const refusesAtOnce = (bytes: Buffer): void =>
  assert.throws(
    () => new EntryReader({ begin: () => {}, data: () => {}, end: () => {} }, 1000).push(bytes),
    (error) => isKind(error, 'failed-precondition'),
  )

const names = (bytes: Buffer): string[] => read(bytes).map(({ entry }) => entry.name)

const octal = (value: number): string => `${value.toString(8).padStart(11, '0')}\0`

/** An old GNU sparse header: real size, and up to four stretches. */
const oldSparse = (name: string, realSize: number, map: [number, number][], data: string, more = false): Forged => ({
  name,
  type: 'S',
  magic: 'gnu',
  data,
  patch: (block) => {
    for (const [i, [offset, length]] of map.entries())
      block.write(octal(offset) + octal(length), 386 + i * 24, 'latin1')
    block[482] = more ? 1 : 0
    block.write(octal(realSize), 483, 'latin1')
  },
})

describe('EntryReader', () => {
  it('reads what tar-stream packs, whatever the chunks', async () => {
    const entries = fc.array(
      fc.record(
        {
          name: fc.stringMatching(/^[a-zé]{1,120}(\/[a-z]{1,90}){0,3}$/),
          data: fc.uint8Array({ maxLength: 1500 }),
          mode: fc.integer({ min: 1, max: 0o7777 }),
          uid: fc.integer({ min: 0, max: 0o777777 }),
          mtime: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
          xattr: fc.option(fc.stringMatching(/^[a-z]{1,20}$/)),
        },
        { noNullPrototype: true },
      ),
      { maxLength: 6 },
    )
    await fc.assert(
      fc.asyncProperty(entries, fc.integer({ min: 1, max: 3000 }), async (wanted, length) => {
        const packer = pack()
        for (const { data, mtime, xattr, ...rest } of wanted) {
          const records = xattr === null ? {} : { pax: { 'SCHILY.xattr.user.x': xattr } }
          packer.entry({ ...rest, mtime: new Date(mtime * 1000), ...records }, Buffer.from(data))
        }
        packer.finalize()
        const found = read(await buffer(packer), length)
        assert.deepEqual(
          found.map(({ entry, content }) => ({
            name: Buffer.from(entry.name, 'latin1').toString(),
            data: Uint8Array.from(content),
            mode: entry.mode,
            uid: entry.uid,
            mtime: entry.mtime.seconds,
            xattr: entry.xattrs.get('user.x')?.toString() ?? null,
          })),
          wanted,
        )
      }),
      { numRuns: 60 },
    )
  })

  it('refuses an archive cut anywhere but between entries', () => {
    const whole = Buffer.concat([
      forge(pax({ path: 'long/name' })),
      forge(file('a', 'x'.repeat(700))),
      forge(gnuLong('L', 'b'.repeat(200))),
      forge(file('b', 'y')),
    ])
    const between = new Set([0, 1024 + 1536, whole.length])
    for (let at = 0; at <= whole.length; at++) {
      if (between.has(at)) read(whole.subarray(0, at))
      else refuses(whole.subarray(0, at))
    }
  })

  it('survives any damage with a refusal or a reading, never another error', () => {
    const whole = archive(
      pax({ path: 'p', mtime: '1.5', 'GNU.sparse.map': '0,1', 'GNU.sparse.size': '10' }),
      file('a', 'x'),
      gnuLong('K', 'target'),
      hardlink('h', 'a'),
      oldSparse('s', 5000, [[0, 3]], 'abc'),
      dir('d/'),
    )
    const damage = fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 })
    fc.assert(
      fc.property(damage, fc.boolean(), (changes, keepSums) => {
        const bytes = Buffer.from(whole)
        for (const [at, value] of changes) bytes[at] = value
        if (keepSums) for (let at = 0; at < bytes.length; at += 512) resum(bytes.subarray(at, at + 512))
        try {
          read(bytes, 777)
        } catch (error) {
          assert.ok(error instanceof RuntimeError, String(error))
        }
      }),
      { numRuns: 1500 },
    )
  })

  it('applies long names and pax records to the next entry only', () => {
    const long = 'x'.repeat(300)
    assert.deepEqual(names(archive(gnuLong('L', long), file('short'), file('next'))), [long, 'next'])
    assert.deepEqual(names(archive(pax({ path: long }), file('short'), file('next'))), [long, 'next'])
  })

  it('takes link targets, owners, sizes and times from pax records', () => {
    const [link, data] = read(
      archive(
        pax({ linkpath: 'far', uid: '70000000', gid: '8', mtime: '-1.25' }),
        hardlink('l', 'near'),
        pax({ size: '3' }),
        file('f', 'abc', { size: 0 }),
      ),
    )
    assert.equal(link?.entry.linkName, 'far')
    assert.equal(link?.entry.uid, 70000000)
    assert.deepEqual(link?.entry.mtime, { seconds: -2, nanoseconds: 750_000_000 })
    assert.equal(data?.content.toString(), 'abc')
  })

  it('ignores global headers and volume labels', () => {
    assert.deepEqual(names(archive(pax({ path: 'evil' }, 'g'), { name: 'label', type: 'V' }, file('a'))), ['a'])
  })

  it('stops at two blocks of zeros, whatever follows', () => {
    assert.deepEqual(names(Buffer.concat([archive(file('a')), forge(file('b'))])), ['a'])
    refuses(Buffer.concat([forge(file('a')), Buffer.alloc(512), forge(file('b'))]))
  })

  it('reads no content after links, directories and devices, as other readers', () => {
    assert.deepEqual(names(archive(hardlink('h', 'a', { size: 512 }), file('a'))), ['h', 'a'])
  })

  it('takes a v7 name with a slash at the end for a directory', () => {
    const [entry] = read(archive({ name: 'd/', type: '\0', magic: 'v7' }))
    assert.equal(entry?.entry.kind, 'directory')
  })

  describe('sparse files', () => {
    const content = (bytes: Buffer): string => read(bytes).at(0)?.content.toString('latin1') ?? ''

    it('reads the old GNU format with extension blocks', () => {
      const extension = Buffer.alloc(512)
      extension.write(octal(8) + octal(1), 0, 'latin1')
      const head = oldSparse('s', 10, [[2, 2]], '', true)
      const bytes = Buffer.concat([
        forge({ ...head, size: 3 }).subarray(0, 512),
        extension,
        Buffer.from('abc'.padEnd(512, '\0')),
        END,
      ])
      assert.equal(content(bytes), '\0\0ab\0\0\0\0c\0')
    })

    it('reads the pax formats 0.0, 0.1 and 1.0', () => {
      const zero = Buffer.concat([
        paxRecord('GNU.sparse.size', '6'),
        paxRecord('GNU.sparse.numblocks', '2'),
        paxRecord('GNU.sparse.offset', '1'),
        paxRecord('GNU.sparse.numbytes', '1'),
        paxRecord('GNU.sparse.offset', '4'),
        paxRecord('GNU.sparse.numbytes', '1'),
      ])
      assert.equal(content(archive({ name: 'x', type: 'x', data: zero }, file('s', 'ab'))), '\0a\0\0b\0')
      const one = pax({ 'GNU.sparse.size': '6', 'GNU.sparse.map': '1,1,4,1', 'GNU.sparse.name': 'real' })
      const [entry] = read(archive(one, file('s', 'ab')))
      assert.equal(entry?.entry.name, 'real')
      assert.equal(entry?.content.toString('latin1'), '\0a\0\0b\0')
      const inData = pax({ 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': '6' })
      const map = '2\n1\n1\n4\n1\n'.padEnd(512, '\0')
      assert.equal(content(archive(inData, file('s', `${map}ab`))), '\0a\0\0b\0')
    })

    it('refuses maps that overlap, lie outside, or do not add up (CVE-2025-58183 and its kin)', () => {
      refuses(
        archive(
          oldSparse(
            's',
            10,
            [
              [0, 2],
              [1, 2],
            ],
            'abcd',
          ),
        ),
      )
      refuses(archive(oldSparse('s', 10, [[9, 2]], 'ab')))
      refuses(archive(oldSparse('s', 10, [[0, 3]], 'ab')))
      refuses(archive(pax({ 'GNU.sparse.size': '6', 'GNU.sparse.map': '1,1,4' }), file('s', 'a')))
      refuses(archive(pax({ 'GNU.sparse.map': '0,1' }), file('s', 'a')))
      refuses(archive(negativeRealSize()))
    })

    it('refuses a map in the data that never ends', () => {
      const inData = pax({ 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': '6' })
      const endless = Buffer.from(`10000000\n${'1\n'.repeat(600 * 1024)}`)
      const head = forge(file('s', '', { size: 2 ** 33 }))
      refusesAtOnce(Buffer.concat([forge(inData), head, endless]))
      refusesAtOnce(Buffer.concat([forge(inData), head, Buffer.alloc(5000, '9')]))
    })
    it('refuses old GNU extension blocks that never end', () => {
      const block = Buffer.alloc(512)
      block[504] = 1
      refusesAtOnce(
        Buffer.concat([forge(oldSparse('s', 10, [], '', true)), ...Array.from({ length: 2100 }, () => block)]),
      )
    })
  })

  describe('refuses what only an attacker writes', () => {
    it('a pax header of gigabytes (CVE-2017-14992)', () =>
      refusesAtOnce(forge({ name: 'x', type: 'x', size: 4 * 2 ** 30 })))
    it('a global header of gigabytes', () => refusesAtOnce(forge({ name: 'x', type: 'g', size: 4 * 2 ** 30 })))
    it('a long name of gigabytes', () => refusesAtOnce(forge({ name: 'x', type: 'L', size: 4 * 2 ** 30 })))
    it('pax records that do not add up', () => {
      for (const data of ['5 a=b', '99 a=b\n', '0 a=b\n', '6 a=b\n\n', 'x', '4 =\n', '-6 a=b\n', '6.0 a=b\n'])
        refuses(archive({ name: 'x', type: 'x', data }, file('a')))
    })
    it('impossible pax values', () => {
      for (const records of [
        { size: '-1' },
        { size: '9007199254740993' },
        { uid: '4294967295' },
        { uid: 'root' },
        { mtime: 'now' },
        { path: 'a\0b' },
        { linkpath: 'a\0b' },
      ])
        refuses(archive(pax(records as Record<string, string>), file('a')))
    })
    it('a row of long names', () => refuses(archive(gnuLong('L', 'a'), gnuLong('L', 'b'), file('c'))))
    it('a row of pax headers', () => refuses(archive(pax({ path: 'a' }), pax({ path: 'b' }), file('c'))))
    it('an extension header at the end', () => refuses(archive(file('a'), pax({ path: 'b' }))))
    it('negative sizes and owners', () => {
      refuses(archive(file('a', '', { size: -1 })))
      refuses(archive(file('a', '', { uid: -1 })))
      refuses(archive(file('a', '', { gid: 2 ** 32 - 1 })))
    })
    it('unknown types', () => refuses(archive({ name: 'a', type: 'Z' })))
    it('too many entries', () => {
      assert.throws(
        () => read(archive(file('a'), file('b'), pax({ path: 'x' }), file('c')), 512, 3),
        (error) => isKind(error, 'resource-exhausted'),
      )
    })
    it('text that is no archive', () => refuses(Buffer.from('<html>not found</html>'.padEnd(2048))))
  })
})

const negativeRealSize = (): Forged => ({
  name: 's',
  type: 'S',
  magic: 'gnu',
  patch: (block) => void base256(-1, 12).copy(block, 483),
})

const resum = (block: Buffer): void => {
  if (block.length < 512 || block.every((byte) => byte === 0)) return
  block.fill(0x20, 148, 156)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
}
