/** What a layer looks like once unpacked: attributes, odd formats, limits, and that only the promised bytes are accepted. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { lstatSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, it, type TestContext } from 'node:test'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { lgetXattr, llistXattr } from '#linux/xattr.ts'
import { type ErrorKind, isKind } from '#proto/errors.ts'
import { describeTree, diffIdOf, temporaryStorage } from '../testing/temporary-storage.ts'
import type { UnpackLimits } from './limits.ts'
import { archive, device, dir, END, type Forged, file, gnuLong, hardlink, pax, symlink } from './testing/tarsmith.ts'

const shared = await temporaryStorage({ after })

const xattr = (name: string, value: string): Forged => pax({ [`SCHILY.xattr.${name}`]: value })

/** Unpacking fails with this kind and leaves nothing. */
const refuses = async (
  t: TestContext,
  tar: Buffer,
  {
    blob = tar,
    kind = 'failed-precondition',
    limits,
  }: { blob?: Buffer; kind?: ErrorKind; limits?: Partial<UnpackLimits> } = {},
): Promise<void> => {
  const temporary = limits === undefined ? shared : await temporaryStorage(t, { limits })
  const before = temporary.storage.layers.list().length
  await assert.rejects(temporary.unpack(tar, blob), (error) => {
    assert.ok(isKind(error, kind), String(error))
    return true
  })
  await temporary.storage.trashEmptied()
  assert.equal(readdirSync(join(temporary.root, 'layers')).length, before)
  assert.deepEqual(readdirSync(join(temporary.root, 'temp')), [])
}

describe('an unpacked layer', () => {
  it('has owner, mode and times of its entries', async () => {
    const { unpack } = shared
    const { path } = await unpack(
      archive(
        dir('d/', { mode: 0o1750, uid: 10, gid: 20, mtime: 1_000 }),
        pax({ mtime: '1600000000.123456789' }),
        file('d/suid', '#!', { mode: 0o4755, uid: 30, gid: 40 }),
        symlink('d/l', 'x', { uid: 50, gid: 60, mtime: 2_000 }),
        file('before-1970', '', { mtime: -5 }),
      ),
    )
    assert.deepEqual(describeTree(path).slice(1), [
      './before-1970 0644 0:0 ""',
      './d 1750 10:20 dir',
      './d/l 0777 50:60 -> x',
      './d/suid 4755 30:40 "#!"',
    ])
    assert.equal(statSync(join(path, 'd')).mtimeMs, 1_000_000)
    assert.equal(statSync(join(path, 'd/suid'), { bigint: true }).mtimeNs, 1_600_000_000_123_456_789n)
    assert.equal(lstatSync(join(path, 'd/l')).mtimeMs, 2_000_000)
    assert.equal(statSync(join(path, 'before-1970')).mtimeMs, 0)
  })

  it('has nothing of a set-group-id directory but the directory', async () => {
    const { unpack } = shared
    const { path } = await unpack(archive(dir('d', { mode: 0o2775, gid: 50 }), file('d/f'), dir('d/sub')))
    assert.deepEqual(describeTree(path).slice(1), ['./d 2775 0:50 dir', './d/f 0644 0:0 ""', './d/sub 0755 0:0 dir'])
  })

  it('has the modes of the archive whatever the umask', async (t) => {
    const { unpack } = await temporaryStorage(t)
    const old = process.umask(0o077)
    t.after(() => process.umask(old))
    const { path } = await unpack(archive(dir('d', { mode: 0o777 }), file('f', '', { mode: 0o666 })))
    assert.deepEqual(describeTree(path).slice(1), ['./d 0777 0:0 dir', './f 0666 0:0 ""'])
  })

  it('has hard links that share one file', async () => {
    const { unpack } = shared
    const { path, inodes } = await unpack(archive(file('a', 'x'), hardlink('b', 'a'), hardlink('c/d', '/a')))
    assert.equal(statSync(join(path, 'c/d')).ino, statSync(join(path, 'a')).ino)
    assert.equal(inodes, 3)
  })

  it('keeps user attributes and capabilities, drops what steers the host (C9)', async () => {
    const { unpack } = shared
    const capability = '\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
    const evil = [
      'trusted.overlay.opaque',
      'trusted.overlay.redirect',
      'trusted.overlay.metacopy',
      'user.overlay.opaque',
    ]
    const more = ['security.selinux', 'security.ima', 'system.posix_acl_access', 'user.']
    const { path } = await unpack(
      archive(
        pax(Object.fromEntries([...evil, ...more].map((name) => [`SCHILY.xattr.${name}`, 'y']))),
        dir('d'),
        pax({ 'SCHILY.xattr.user.note': 'kept\xff', 'SCHILY.xattr.security.capability': capability }),
        file('f', '', { uid: 5 }),
        xattr('user.note', 'x'),
        symlink('l', 'f'),
      ),
    )
    assert.deepEqual(llistXattr(join(path, 'd')), [])
    assert.deepEqual(llistXattr(join(path, 'f')).sort(), ['security.capability', 'user.note'])
    assert.equal(lgetXattr(join(path, 'f'), 'user.note')?.toString('latin1'), 'kept\xff')
    assert.equal(lgetXattr(join(path, 'f'), 'security.capability')?.toString('latin1'), capability)
  })

  it('is what GNU tar made of sparse files, in every format', async () => {
    const { directory, unpack } = shared
    const source = join(directory, 'source')
    mkdirSync(source)
    const content = Buffer.alloc(3 << 20)
    for (let i = 0; i < 40; i++) content.write(`block ${i}`, i * 70_000 + 5)
    writeFileSync(join(source, 'holes'), content)
    execFileSync('fallocate', ['--dig-holes', join(source, 'holes')])
    for (const format of [
      ['--format=gnu'],
      ...['0.0', '0.1', '1.0'].map((v) => ['--format=pax', `--sparse-version=${v}`]),
    ]) {
      const tar = execFileSync('tar', [...format, '--sparse', '-C', source, '-cf', '-', 'holes'], {
        maxBuffer: 1 << 24,
      })
      assert.ok(tar.length < 1 << 20)
      const { path } = await unpack(tar)
      assert.deepEqual(readFileSync(join(path, 'holes')), content)
      assert.ok(statSync(join(path, 'holes')).blocks * 512 < 1 << 20, 'the holes are holes again')
    }
  })

  it('is what GNU tar would make of its own archive', async () => {
    const { directory, unpack } = shared
    for (const format of ['gnu', 'pax', 'ustar', 'v7']) {
      const tar = execFileSync('tar', [`--format=${format}`, '-C', import.meta.dirname, '-cf', '-', '.'])
      const expected = join(directory, format)
      mkdirSync(expected)
      execFileSync('tar', ['-C', expected, '-xpf', '-'], { input: tar })
      const { path } = await unpack(tar)
      assert.deepEqual(describeTree(path), describeTree(expected))
      const times = (root: string): bigint[] =>
        readdirSync(root, { recursive: true, encoding: 'utf8' })
          .sort()
          .map((name) => lstatSync(join(root, name), { bigint: true }).mtimeNs)
      assert.deepEqual(times(path), times(expected))
    }
  })

  it('takes about as much room as it says', async () => {
    const { unpack } = shared
    const files = Array.from({ length: 50 }, (_, i) => file(`d/f${i}`, 'x'.repeat(i * 300)))
    const layer = await unpack(
      archive(dir('d'), ...files, file('d/f0', 'again'), symlink('l', 'x'), hardlink('h', 'd/f1')),
    )
    const du = (flag: string): number => Number(execFileSync('du', ['-s', flag, layer.path]).toString().split('\t')[0])
    assert.equal(layer.inodes, du('--inodes'))
    const disk = du('--block-size=1')
    assert.ok(Math.abs(layer.bytes - disk) <= 8192, `${layer.bytes} of ${disk}`)
  })
})

describe('a layer travels', () => {
  const tar = archive(dir('d'), file('d/f', 'x'.repeat(100_000)))
  for (const [how, blob] of [
    ['plain', tar],
    ['as gzip', gzipSync(tar)],
    ['as gzip of several members', Buffer.concat([gzipSync(tar.subarray(0, 999)), gzipSync(tar.subarray(999))])],
    ['as zstd', zstdCompressSync(tar)],
    ['as zstd with the window that zstd itself allows', zstdWindow(tar, 27)],
    [
      'as zstd of several frames',
      Buffer.concat([zstdCompressSync(tar.subarray(0, 999)), zstdCompressSync(tar.subarray(999))]),
    ],
    ['as zstd after a skippable frame', Buffer.concat([skippable('toc'), zstdCompressSync(tar)])],
    ['as zstd before a skippable frame', Buffer.concat([zstdCompressSync(tar), skippable('toc')])],
  ] as const)
    it(how, async () => {
      await shared.storage.layers.remove(diffIdOf(tar))
      const { path } = await shared.unpack(tar, blob)
      assert.equal(readFileSync(join(path, 'd/f'), 'latin1'), 'x'.repeat(100_000))
    })
  it('empty', async () => {
    const { unpack } = shared
    assert.deepEqual((await unpack(END)).inodes, 1)
    assert.deepEqual((await unpack(Buffer.alloc(0), gzipSync(''))).inodes, 1)
  })
})

describe('a layer is refused that', () => {
  const noise = randomBytes(300_000)
  const tar = archive(file('a', noise.toString('latin1')), file('b', 'end'))
  const gzip = gzipSync(tar)
  const zstd = zstdCompressSync(tar)

  it('has another diff id than promised (C13)', async () => {
    const { put, storage } = shared
    const blob = await put(tar)
    const wrong = diffIdOf(Buffer.from('other'))
    await assert.rejects(storage.layers.unpack({ diffId: wrong, blob }), (error) =>
      isKind(error, 'failed-precondition'),
    )
    assert.equal(storage.layers.has(wrong), false)
    assert.equal(storage.layers.has(diffIdOf(tar)), false)
  })
  it('differs only after the end mark', async () => {
    const { put, storage } = shared
    const blob = await put(Buffer.concat([tar, Buffer.from('more')]))
    await assert.rejects(storage.layers.unpack({ diffId: diffIdOf(tar), blob }), (error) =>
      isKind(error, 'failed-precondition'),
    )
  })
  for (const [what, blob] of [
    ['is a gzip stream cut short', gzip.subarray(0, gzip.length - 9)],
    ['is a gzip stream cut in its trailer', gzip.subarray(0, gzip.length - 4)],
    ['is a gzip stream cut in the middle', gzip.subarray(0, 150_000)],
    ['is a gzip stream with a wrong checksum', damaged(gzip, gzip.length - 6)],
    ['is a gzip stream with damage inside', damaged(gzip, 140_000)],
    ['is a gzip stream with bytes behind it', Buffer.concat([gzip, Buffer.from('garbage behind')])],
    ['is a gzip stream with zeros and bytes behind it', Buffer.concat([gzip, Buffer.alloc(600_000), Buffer.from('x')])],
    ['is a zstd stream cut short', zstd.subarray(0, zstd.length - 9)],
    ['is a zstd stream with damage inside', damaged(zstd, 140_000)],
    ['is a zstd stream with bytes behind it', Buffer.concat([zstd, Buffer.from('garbage behind')])],
    ['is a zstd stream that wants a window of 2 GiB', zstdWindow(tar, 31)],
    ['is only a magic number', Buffer.from([0x1f, 0x8b])],
    ['is xz', Buffer.from('\xfd7zXZ\0'.padEnd(2048, '\0'), 'latin1')],
    ['is text', Buffer.from('<html>404</html>\n'.repeat(100))],
    ['is a single byte', Buffer.from('x')],
  ] as const)
    it(what, (t) => refuses(t, tar, { blob }))
  it('is a truncated archive whose digest is right', (t) => refuses(t, tar.subarray(0, 200_000)))
  it('is an archive cut at its end mark, in a header', (t) => refuses(t, tar.subarray(0, tar.length - 1024 - 600)))
})

describe('a layer is too big that', () => {
  const kind = 'resource-exhausted'
  it('inflates beyond the limit (C6)', (t) => {
    const tar = archive(file('zeros', '\0'.repeat(5_000_000)))
    return refuses(t, tar, { blob: gzipSync(tar), kind, limits: { archiveBytes: 1_000_000 } })
  })
  it('inflates beyond the limit behind its end mark', (t) => {
    const tar = Buffer.concat([archive(file('a')), Buffer.alloc(5_000_000)])
    return refuses(t, tar, { blob: gzipSync(tar), kind, limits: { archiveBytes: 1_000_000 } })
  })
  it('has too many entries', (t) =>
    refuses(t, archive(...Array.from({ length: 30 }, () => file('same'))), { kind, limits: { headers: 20 } }))
  it('has too many directories', (t) =>
    refuses(t, archive(...Array.from({ length: 30 }, (_, i) => dir(`d${i}`))), { kind, limits: { directories: 20 } }))
  it('implies too many directories', (t) =>
    refuses(t, archive(gnuLong('L', 'd/'.repeat(1000)), dir('x')), { kind, limits: { implicitDirectories: 500 } }))
  it('has too many opaque directories', (t) =>
    refuses(t, archive(...Array.from({ length: 30 }, (_, i) => file(`d${i}/.wh..wh..opq`))), {
      kind,
      limits: { opaqueDirectories: 20 },
    }))
  it('has too many names to be kept', async (t) => {
    const limits = { keptNameBytes: 4000 }
    await refuses(t, archive(gnuLong('L', `${'d/'.repeat(100)}f`), file('x')), { kind, limits })
    await refuses(
      t,
      archive(
        gnuLong('L', `${'d'.repeat(200)}/f`),
        ...Array.from({ length: 30 }, (_, i) => hardlink(`h${i}`, 'x'.repeat(99))),
        file('x'),
      ),
      { kind, limits: { keptNameBytes: 3000 } },
    )
  })
  it('has a sparse file of 8 EiB (C4)', (t) =>
    refuses(t, archive(pax({ 'GNU.sparse.size': '9007199254740991', 'GNU.sparse.map': '0,1' }), file('s', 'x')), {
      kind,
    }))
})

describe('a layer of oddities', () => {
  it('goes as deep as names go', async () => {
    const { storage, unpack } = shared
    const { diffId, implicit } = await unpack(archive(gnuLong('L', `${'d/'.repeat(2040)}f`), file('x', 'deep')))
    assert.equal(implicit.length, 2040)
    await storage.layers.remove(diffId)
    await storage.trashEmptied()
  })
  it('replaces a directory of many things by a file, and counts right', async () => {
    const { unpack } = shared
    const { inodes, implicit } = await unpack(
      archive(
        file('d/a/b'),
        file('d/.wh.gone'),
        symlink('d/l', '/'),
        hardlink('d/h', 'd/a/b'),
        file('d', 'now a file'),
      ),
    )
    assert.equal(inodes, 2)
    assert.deepEqual(implicit, [])
  })
  it('keeps devices as they are', async () => {
    const { unpack } = shared
    const { path } = await unpack(archive({ ...device('tty', 'char', 5, 0), mode: 0o620, gid: 5 }))
    assert.deepEqual(describeTree(path).slice(1), ['./tty 0620 0:5 char 5:0'])
  })
  it('is not entered twice by two callers', async () => {
    const { put, storage } = shared
    const tar = archive(...Array.from({ length: 200 }, (_, i) => file(`f${i}`, 'x')))
    const blob = await put(gzipSync(tar))
    const diffId = diffIdOf(tar)
    const layers = await Promise.all([1, 2, 3].map(() => storage.layers.unpack({ diffId, blob })))
    assert.equal(new Set(layers).size, 1)
  })
})

function skippable(content: string): Buffer {
  const head = Buffer.alloc(8)
  head.writeUInt32LE(0x184d2a50)
  head.writeUInt32LE(content.length, 4)
  return Buffer.concat([head, Buffer.from(content)])
}

function damaged(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes)
  copy[at] = (copy[at] ?? 0) ^ 0xff
  return copy
}

/** The bytes as they are, in a valid frame that asks for a window of 2^log bytes. */
function zstdWindow(bytes: Buffer, log: number): Buffer {
  const parts: Buffer[] = [Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, (log - 10) << 3])]
  const size = 64 * 1024
  for (let at = 0; at < bytes.length; at += size) {
    const block = bytes.subarray(at, at + size)
    const head = Buffer.alloc(3)
    head.writeUIntLE((block.length << 3) | (at + size >= bytes.length ? 1 : 0), 0, 3)
    parts.push(head, block)
  }
  return Buffer.concat(parts)
}
