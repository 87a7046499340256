/** Archives of our own making read back as what they were made of, and archives of others that may hold files only hold nothing else. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  closeSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { lsetXattr } from '#linux/xattr.ts'
import { RuntimeError } from '#proto/errors.ts'
import { canary, describeTree, type TemporaryStorage, temporaryStorage } from '../testing/temporary-storage.ts'
import { END_OF_ARCHIVE, encodeEntry, paddingAfter } from './encode-entry.ts'
import type { EntryKind, TarEntry } from './entry.ts'
import { EntryReader } from './read-entries.ts'
import { archive, device, dir, type Forged, file, gnuLong, hardlink, pax, symlink } from './testing/tarsmith.ts'

const bytes = (max: number, min = 1): fc.Arbitrary<string> =>
  fc.uint8Array({ minLength: min, maxLength: max }).map((all) => Buffer.from(all.map((b) => b || 1)).toString('latin1'))

const kinds: EntryKind[] = ['file', 'directory', 'symlink', 'hardlink', 'char', 'block', 'fifo']
const entries: fc.Arbitrary<TarEntry> = fc.record({
  kind: fc.constantFrom(...kinds),
  name: bytes(300),
  linkName: bytes(300, 0),
  mode: fc.nat(0o7777),
  uid: fc.nat(2 ** 31 - 2),
  gid: fc.oneof(fc.nat(2 ** 31 - 2), fc.constant(2 ** 32 - 2)),
  size: fc.nat(3000),
  mtime: fc.record(
    { seconds: fc.integer({ min: -(2 ** 31), max: 2 ** 36 }), nanoseconds: fc.nat(999_999_999) },
    { noNullPrototype: true },
  ),
  major: fc.nat(0xfff),
  minor: fc.nat(0xfffff),
  xattrs: fc
    .dictionary(fc.stringMatching(/^user\.[a-z]{1,20}$/), fc.uint8Array({ maxLength: 300 }), { maxKeys: 3 })
    .map((all) => new Map(Object.entries(all).map(([name, value]) => [name, Buffer.from(value)]))),
})

const asWritten = (entry: TarEntry): TarEntry => ({ ...entry, size: entry.kind === 'file' ? entry.size : 0 })

it('an entry reads back as it was written, whatever its names, numbers and attributes', () => {
  fc.assert(
    fc.property(fc.array(entries, { maxLength: 5 }), (all) => {
      const written = all.map(asWritten)
      const read: TarEntry[] = []
      const reader = new EntryReader({ begin: (entry) => void read.push(entry), data: () => {}, end: () => {} }, 1000)
      const parts = written.flatMap((entry) => [
        encodeEntry(entry),
        Buffer.alloc(entry.size + paddingAfter(entry.size)),
      ])
      reader.push(Buffer.concat([...parts, END_OF_ARCHIVE]))
      reader.finish()
      assert.deepEqual(read, written)
    }),
    { numRuns: 300 },
  )
})

const LIMITS = { bytes: 2 ** 20, entries: 100 }

const packTo = async ({ storage, directory }: TemporaryStorage, tree: string, limits = LIMITS) => {
  const path = join(directory, 'packed.tar')
  const fd = openSync(path, 'w')
  try {
    return { path, packed: await storage.pack(tree, fd, limits) }
  } finally {
    closeSync(fd)
  }
}

describe('packing a directory', () => {
  it('keeps what a writable layer holds, and tells what it hides', async (t) => {
    const temporary = await temporaryStorage(t)
    const tree = join(temporary.directory, 'tree')
    mkdirSync(join(tree, 'd/deep'), { recursive: true })
    writeFileSync(join(tree, 'd/f'), 'content', { mode: 0o750 })
    linkSync(join(tree, 'd/f'), join(tree, 'second'))
    symlinkSync('/etc/shadow', join(tree, 'd/link'))
    lutimesSync(join(tree, 'd/link'), 1, 2)
    lsetXattr(join(tree, 'd/f'), 'user.note', Buffer.from('kept'))
    lsetXattr(join(tree, 'd/f'), 'trusted.note', Buffer.from('not kept'))
    lsetXattr(join(tree, 'd/deep'), 'trusted.overlay.opaque', Buffer.from('y'))
    execFileSync('mknod', [join(tree, 'gone'), 'c', '0', '0'])
    execFileSync('mknod', [join(tree, 'd/null'), 'c', '1', '3'])
    writeFileSync(join(tree, `d/${'long'.repeat(60)}`), 'x')
    const { path, packed } = await packTo(temporary, tree)
    const bytes = readFileSync(path)
    assert.deepEqual([bytes.includes('user.note'), bytes.includes('trusted.')], [true, false])
    assert.deepEqual([packed.whiteouts, packed.opaque], [['gone'], ['d/deep']])
    const layer = await temporary.unpack(readFileSync(path))
    const ours = describeTree(tree).filter((line) => !line.startsWith('./gone'))
    assert.deepEqual(
      describeTree(layer.path),
      ours.map((line) => line.replace(' opaque', '')),
    )
    const listed = execFileSync('tar', ['--list', '--verbose', '--file', path], { encoding: 'utf8' })
    assert.match(listed, /second link to |d\/f link to /)
  })

  for (const [name, kind] of [
    ['metacopy', 'file'],
    ['redirect', 'directory'],
  ] as const) {
    it(`refuses a ${kind} of which overlayfs keeps only a part (${name})`, async (t) => {
      const temporary = await temporaryStorage(t)
      const tree = join(temporary.directory, 'tree')
      mkdirSync(join(tree, 'directory'), { recursive: true })
      writeFileSync(join(tree, 'file'), '')
      lsetXattr(join(tree, kind), `trusted.overlay.${name}`, Buffer.from('/x'))
      await assert.rejects(packTo(temporary, tree), { kind: 'failed-precondition', message: new RegExp(`"${kind}"`) })
    })
  }

  it('stops at its limits', async (t) => {
    const temporary = await temporaryStorage(t)
    const tree = join(temporary.directory, 'tree')
    mkdirSync(tree)
    execFileSync('truncate', ['--size', '1T', join(tree, 'sparse')])
    const refusal = { kind: 'resource-exhausted' }
    await assert.rejects(packTo(temporary, tree), refusal)
    execFileSync('rm', [join(tree, 'sparse')])
    for (let i = 0; i < 9; i++) writeFileSync(join(tree, `${i}`), 'x'.repeat(1000))
    await assert.rejects(packTo(temporary, tree, { bytes: 9000, entries: 100 }), refusal)
    await assert.rejects(packTo(temporary, tree, { bytes: 90_000, entries: 9 }), refusal)
    const { packed } = await packTo(temporary, tree, { bytes: 90_000, entries: 10 })
    // Each entry has its header and, for the nanoseconds of its time, an extension header.
    assert.equal(packed.bytes, 10 * 1536 + 9 * 1024 + 1024)
  })
})

const extractFrom = async (temporary: TemporaryStorage, content: Buffer, limits = { bytes: 2 ** 20, files: 20 }) => {
  const { directory, storage } = temporary
  execFileSync('rm', ['-rf', join(directory, 'into')])
  mkdirSync(join(directory, 'into'))
  writeFileSync(join(directory, 'given.tar'), content)
  const fd = openSync(join(directory, 'given.tar'), 'r')
  try {
    await storage.extract(fd, join(directory, 'into'), limits)
    return describeTree(join(directory, 'into'))
  } finally {
    closeSync(fd)
  }
}

describe('extracting an archive of files', () => {
  it('makes files and directories that are ours alone, whatever the archive says of them', async (t) => {
    const temporary = await temporaryStorage(t)
    const given = archive(
      dir('checkpoint/', { mode: 0o777, uid: 1000 }),
      file('./checkpoint/core-1.img', 'abc', { mode: 0o4777, uid: 1000, gid: 1000 }),
      file('/config.dump', '{}'),
    )
    assert.deepEqual(await extractFrom(temporary, given), [
      '. 0755 0:0 dir',
      './checkpoint 0700 0:0 dir',
      './checkpoint/core-1.img 0600 0:0 "abc"',
      './config.dump 0600 0:0 "{}"',
    ])
  })

  const refusals: [string, Forged[], RegExp][] = [
    ['a symbolic link', [symlink('container.log', '/etc/shadow')], /symlink.*"container.log"/],
    ['a link in place of a directory', [symlink('checkpoint', '/'), file('checkpoint/x')], /symlink.*"checkpoint"/],
    ['a hard link', [file('a'), hardlink('b', 'a')], /hardlink.*"b"/],
    ['a device', [device('checkpoint/mem', 'char', 1, 1)], /char.*"checkpoint\/mem"/],
    ['a disk', [device('disk', 'block', 8, 0)], /block.*"disk"/],
    ['a pipe', [{ name: 'fifo', type: '6' }], /fifo.*"fifo"/],
    ['a name that leads upwards', [file('checkpoint/../../x')], /leads upwards/],
    ['a long name that leads upwards', [gnuLong('L', '../x'), file('x')], /leads upwards/],
    ['a pax name that leads upwards', [pax({ path: '../x' }), file('x')], /leads upwards/],
    ['a file twice', [file('a', '1'), file('a', '2')], /two entries/],
    ['a file in place of a directory', [file('a', '1'), file('a/b', '2')], /two entries/],
    ['a directory in place of a file', [dir('a/'), file('a', '2')], /two entries/],
    ['a file of the root', [file('./', '2')], /./],
  ]
  for (const [what, given, message] of refusals) {
    it(`refuses ${what}, by name, and leaves the host as it is`, async (t) => {
      const temporary = await temporaryStorage(t)
      const watched = canary(temporary.directory)
      await assert.rejects(extractFrom(temporary, archive(...given)), (error) => {
        assert.ok(error instanceof RuntimeError)
        assert.equal(error.kind, 'failed-precondition')
        assert.match(error.message, message)
        return true
      })
      assert.deepEqual(watched.now(), watched.before)
      assert.ok(!readdirSync(temporary.directory).includes('x'))
    })
  }

  it('stops at its limits', async (t) => {
    const temporary = await temporaryStorage(t)
    const refusal = { kind: 'resource-exhausted' }
    const many = Array.from({ length: 21 }, (_, i) => file(`f${i}`))
    await assert.rejects(extractFrom(temporary, archive(...many)), refusal)
    const deep = file(Array.from({ length: 30 }, () => 'd').join('/'))
    await assert.rejects(extractFrom(temporary, archive(deep)), refusal)
    await assert.rejects(extractFrom(temporary, archive(file('big', '', { size: 2 ** 40 }))), refusal)
    await assert.rejects(extractFrom(temporary, archive(file('big', 'x'.repeat(2 ** 20)))), refusal)
    const sparse = pax({ 'GNU.sparse.major': '0', 'GNU.sparse.size': String(2 ** 40), 'GNU.sparse.map': '0,1' })
    await assert.rejects(extractFrom(temporary, archive(sparse, file('sparse', 'x'))), refusal)
  })

  it('never leaves its directory, whatever the archive', async (t) => {
    const temporary = await temporaryStorage(t)
    const watched = canary(temporary.directory)
    const names = fc.constantFrom('a', 'a/b', '../canary/secret', '/etc/x', './a', 'a/../b', '..', '.', 'a//b/', 'c')
    const forged: fc.Arbitrary<Forged> = fc.record({
      name: names,
      type: fc.constantFrom('0', '1', '2', '3', '5', '6', 'x', 'L', '\0'),
      linkName: names,
      data: fc.constantFrom('', 'abc', '13 path=../x\n'),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(forged, { maxLength: 6 }), async (all) => {
        const seen = await extractFrom(temporary, archive(...all)).catch((error) => {
          assert.ok(error instanceof RuntimeError, String(error))
          assert.match(error.kind, /^(failed-precondition|resource-exhausted)$/)
          return []
        })
        for (const line of seen) assert.match(line, / (dir|".*")$/s)
        assert.deepEqual(watched.now(), watched.before)
      }),
      { numRuns: 60 },
    )
  })
})
