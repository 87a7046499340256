/** Archives that try to leave their layer. Names follow containerd's list of the same tricks where it has one. */
import assert from 'node:assert/strict'
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { canary, describeTree, temporaryStorage } from '../testing/temporary-storage.ts'
import { archive, device, dir, type Forged, file, gnuLong, hardlink, pax, symlink } from './testing/tarsmith.ts'

type Parts = (Forged | Buffer)[]

const temporary = await temporaryStorage({ after })
const guarded = canary(temporary.directory)
const neighbour = await temporary.unpack(archive(dir('n'), file('n/f', 'neighbour')))
const neighbourTree = describeTree(neighbour.path)

/** The archive is refused, nothing of it stays, nothing else changes. `outside` is a directory beside the storage. */
const refuses = async (make: (outside: string) => Parts): Promise<void> => {
  const layers = temporary.storage.layers.list().length
  await assert.rejects(temporary.unpack(archive(...make(guarded.path))), (error) => {
    assert.ok(isKind(error, 'failed-precondition'), String(error))
    return true
  })
  await temporary.storage.trashEmptied()
  assert.deepEqual(readdirSync(join(temporary.root, 'temp')), [])
  assert.deepEqual(readdirSync(join(temporary.root, 'trash')), [])
  assert.equal(temporary.storage.layers.list().length, layers)
  assert.deepEqual(describeTree(neighbour.path), neighbourTree)
  assert.deepEqual(guarded.now(), guarded.before)
}

/** The archive stays inside: its tree has exactly these lines (modes and owners left out), nothing outside changes. */
const contains = async (make: (outside: string) => Parts, expected: string[]): Promise<void> => {
  const layer = await temporary.unpack(archive(...make(guarded.path)))
  const lines = describeTree(layer.path).map((line) => line.replace(/ [0-7]{4} \d+:\d+/, ''))
  assert.deepEqual(lines.slice(1), expected)
  assert.deepEqual(guarded.now(), guarded.before)
}

/** The link is not made: in its place is a whiteout. What is meant is looked for in the layers below (lower-links.test.ts), and here are none. */
const isForLowerLayers = async (make: (outside: string) => Parts): Promise<void> => {
  const { diffId, path, lowerLinks } = await temporary.unpack(archive(...make(guarded.path)))
  assert.deepEqual(
    lowerLinks.map((link) => link.path),
    ['h'],
  )
  assert.equal(statSync(join(path, 'h')).rdev, 0)
  await assert.rejects(temporary.storage.complete([diffId]), (error) => isKind(error, 'failed-precondition'))
  assert.deepEqual(describeTree(neighbour.path), neighbourTree)
  assert.deepEqual(guarded.now(), guarded.before)
}

const etc = [dir('etc/'), file('etc/passwd', 'inside')]

describe('an archive with links', () => {
  it('SymlinkAbsolute: an absolute link means the layer root', () =>
    contains(
      () => [dir('etc'), symlink('localetc', '/etc'), file('localetc/unbroken', 'x')],
      ['./etc dir', './etc/unbroken "x"', './localetc -> /etc'],
    ))
  it('SymlinkAbsolute, to a host directory: is made inside', () =>
    contains(
      () => [symlink('out', '/tmp/x/../y'), file('out/f', 'x')],
      ['./out -> /tmp/x/../y', './tmp dir', './tmp/x dir', './tmp/y dir', './tmp/y/f "x"'],
    ))
  it('SymlinkAbsolute to the canary: the canary is not written', async () => {
    await temporary.unpack(archive(symlink('out', guarded.path), file('out/secret', 'stolen'), file('out/new', 'x')))
    assert.deepEqual(guarded.now(), guarded.before)
  })
  it('SymlinkUpAndOut: `..` stops at the layer root', () =>
    contains(
      () => [dir('etc'), dir('dummy'), symlink('localetc', '/dummy/../etc'), file('localetc/unbroken', 'x')],
      ['./dummy dir', './etc dir', './etc/unbroken "x"', './localetc -> /dummy/../etc'],
    ))
  it('SymlinkUpAndOut: `../../../..` stops at the layer root', () =>
    contains(
      () => [symlink('up', '../../../../../../../..'), file('up/f', 'x')],
      ['./f "x"', './up -> ../../../../../../../..'],
    ))
  it('SymlinkMultipleAbsolute', () =>
    contains(
      () => [dir('etc'), dir('dummy'), symlink('dummy/etc', '/etc'), symlink('l', '/dummy/etc'), file('l/f', 'x')],
      ['./dummy dir', './dummy/etc -> /etc', './etc dir', './etc/f "x"', './l -> /dummy/etc'],
    ))
  it('SymlinkMultipleRelative', () =>
    contains(
      () => [dir('etc'), dir('dummy'), symlink('dummy/etc', '/etc'), symlink('l', './dummy/etc'), file('l/f', 'x')],
      ['./dummy dir', './dummy/etc -> /etc', './etc dir', './etc/f "x"', './l -> ./dummy/etc'],
    ))
  it('SymlinkEmptyFile: the last entry of a name counts, through links too', () =>
    contains(
      () => [dir('etc'), file('etc/e', 'notempty'), symlink('l', '/etc'), file('l/e', '')],
      ['./etc dir', './etc/e ""', './l -> /etc'],
    ))
  it('SymlinkOverrideDirectory: a link replaces a directory with what is in it', () =>
    contains(() => [...etc, symlink('etc', '/elsewhere')], ['./etc -> /elsewhere']))
  it('DirectoryOverrideSymlink: a directory replaces a link', () =>
    contains(
      () => [...etc, symlink('l', '/etc'), file('l/a', 'x'), dir('l/'), file('l/b', 'y')],
      ['./etc dir', './etc/a "x"', './etc/passwd "inside"', './l dir opaque', './l/b "y"'],
    ))
  it('SymlinkOverridePath: a file replaces a link and leaves its target alone', () =>
    contains(
      () => [...etc, symlink('l', '/etc/passwd'), file('l', 'new')],
      ['./etc dir', './etc/passwd "inside"', './l "new"'],
    ))
  it('SymlinkSlashEnded', () =>
    contains(
      () => [dir('etc'), symlink('l/', '/etc/'), file('l/f', 'x')],
      ['./etc dir', './etc/f "x"', './l -> /etc/'],
    ))
  it('a chain of links that never ends is refused', () =>
    refuses(() => [symlink('a', 'b'), symlink('b', 'a'), file('a/f', 'x')]))
  it('links that multiply each other are refused', () =>
    refuses(() => [
      dir('d'),
      ...Array.from({ length: 12 }, (_, i) =>
        symlink(`l${i + 1}`, `l${i}/../l${i}/..`.replace(/^l0\/..\/l0/, 'd/../d')),
      ),
      file('l12/f', 'x'),
    ]))
  it('SymlinkParentDirectory: a link called ".."', () => refuses(() => [...etc, symlink('..', '/etc')]))
  it('SymlinkParentRelative: a name through ".."', () =>
    refuses(() => [...etc, symlink('l', '/etc'), file('l/../../x', 'x')]))
  it('SymlinkEmptyFilename', () => refuses(() => [...etc, symlink('', '/etc')]))
  it('a link to nothing', () => refuses(() => [symlink('l', '')]))
  it('a link with a target that is too long', () => refuses(() => [gnuLong('K', 'x/'.repeat(2100)), symlink('l', 'y')]))
})

describe('an archive with hard links', () => {
  it('HardlinkRelative, HardlinkAbsolute: are names in the layer', () =>
    contains(
      () => [...etc, dir('b'), symlink('b/d1', '../../etc'), hardlink('b/m', '/b/d1/passwd')],
      ['./b dir', './b/d1 -> ../../etc', './b/m "inside"', './etc dir', './etc/passwd "inside"'],
    ))
  it('HardlinkSymlinkRelative: a hard link to a link is the link', () =>
    contains(
      () => [...etc, symlink('l', '/etc/passwd'), hardlink('h', 'l')],
      ['./etc dir', './etc/passwd "inside"', './h -> /etc/passwd', './l -> /etc/passwd'],
    ))
  it('HardlinkSymlinkChmod: the mode of a hard link entry goes nowhere (CVE-2021-32760)', async () => {
    const secret = join(guarded.path, 'secret')
    await temporary.unpack(archive(symlink('l', secret), hardlink('h', 'l', { mode: 0o777, uid: 7 })))
    assert.deepEqual(guarded.now(), guarded.before)
  })
  it('HardlinkUpAndOut', () => refuses(() => [hardlink('h', '../../canary/secret')]))
  it('to a host file through a link (CVE-2026-26960): is no file of any layer', () =>
    isForLowerLayers((outside) => [symlink('a', '/'), symlink('a/b', outside), hardlink('h', 'a/b/secret')]))
  it('to a host file by its absolute name: is no file of any layer', () =>
    isForLowerLayers((outside) => [hardlink('h', `${outside}/secret`)]))
  it('before its target: is to what a lower layer has', () => isForLowerLayers(() => [hardlink('h', 'f'), file('f')]))
  it('to a file of another layer, which is not shared with it', () => isForLowerLayers(() => [hardlink('h', 'n/f')]))
  it('to a directory', () => refuses(() => [dir('d'), hardlink('h', 'd')]))
  it('to the root', () => refuses(() => [hardlink('h', '/')]))
  it('to a whiteout, which would be a second, unsigned one', () => refuses(() => [file('.wh.f'), hardlink('h', 'f')]))
  it('to itself: nothing happens', () => contains(() => [file('f', 'x'), hardlink('f', './f')], ['./f "x"']))
  it('to a device: the device gets a second name', () =>
    contains(() => [device('null', 'char', 1, 3), hardlink('h', 'null')], ['./h char 1:3', './null char 1:3']))
})

describe('an archive whose root is no directory (CVE-2021-29136)', () => {
  for (const name of ['.', './', '/', '//', './.']) {
    it(`${JSON.stringify(name)} as a link`, () => refuses((outside) => [symlink(name, outside), file('f')]))
    it(`${JSON.stringify(name)} as a file`, () => refuses(() => [file(name)]))
    it(`${JSON.stringify(name)} as a hard link`, () => refuses(() => [file('f'), hardlink(name, 'f')]))
    it(`${JSON.stringify(name)} as a device`, () => refuses(() => [device(name, 'char', 1, 3)]))
  }
  it('keeps the mode and owner of a root directory, never set-id', async () => {
    const layer = await temporary.unpack(archive(dir('./', { mode: 0o6751, uid: 1234, gid: 5 })))
    const stat = statSync(layer.path)
    assert.deepEqual([stat.mode & 0o7777, stat.uid, stat.gid], [0o751, 1234, 5])
    assert.deepEqual(layer.root, { mode: 0o751, uid: 1234, gid: 5 })
  })
})

describe('an archive with names that are none', () => {
  it('leading upwards', () => refuses(() => [file('../canary/secret', 'stolen')]))
  it('leading upwards in the middle', () => refuses(() => [file('a/../../canary/secret', 'stolen')]))
  it('ending upwards', () => refuses(() => [dir('a/..')]))
  it('absolute: is inside', () => contains(() => [file('/etc/shadow', 'x')], ['./etc dir', './etc/shadow "x"']))
  it('empty', () => refuses(() => [file('')]))
  it('5000 bytes', () => refuses(() => [gnuLong('L', 'a/'.repeat(2500)), file('x')]))
  it('a part of 256 bytes', () => refuses(() => [gnuLong('L', 'a'.repeat(256)), file('x')]))
  it('with NUL', () => refuses(() => [pax({ path: 'a\0b' }), file('x')]))
  it('backslashes, bytes that are no UTF-8, other forms of one character: all are names', () =>
    contains(
      () => [file('a\\b'), file('e\xcc\x81'), file('E'), file('e'), file('\xc3\xa9'), file('\xe9')],
      ['./E ""', './a\\b ""', './e ""', './e\xcc\x81 ""', './\xc3\xa9 ""', './\xe9 ""'],
    ))
  it('below a file', () => refuses(() => [file('f'), file('f/g')]))
  it('below a device', () => refuses(() => [device('d', 'char', 1, 3), file('d/g')]))
  it('of one thing after another: the last one counts', () =>
    contains(
      () => [file('x', '1'), dir('x'), file('x/y', '2'), symlink('x', '/'), file('x', '3'), device('x', 'char', 1, 3)],
      ['./x char 1:3'],
    ))
})

describe('an archive with whiteouts of what is not its own', () => {
  for (const name of ['.wh.', '.wh..', '.wh...', 'd/.wh.', 'd/.wh..', 'd/.wh...'])
    it(`${name} (WhiteoutRoot, WhiteoutParent, WhiteoutCurrentDirectory)`, () => refuses(() => [dir('d'), file(name)]))
  it('an entry below a whiteout', () => refuses(() => [file('.wh.d/f')]))
  it('WhiteoutSymlink: a link of this very layer stays', () =>
    contains(() => [symlink('l', '/etc'), file('.wh.l'), file('.wh.other')], ['./l -> /etc', './other char 0:0']))
  it('WhiteoutSymlinkPath: through a link to the host, hides inside', async () => {
    await temporary.unpack(archive(symlink('l', guarded.path), file('l/.wh.secret')))
    assert.deepEqual(guarded.now(), guarded.before)
  })
  it('an opaque marker through a link to the root of the layer hides all below it', async () => {
    const { opaqueRoot } = await temporary.unpack(archive(symlink('l', '../..'), file('l/.wh..wh..opq')))
    assert.equal(opaqueRoot, true)
  })
  it('an opaque marker through a link to the host', async () => {
    await temporary.unpack(archive(symlink('l', guarded.path), file('l/.wh..wh..opq')))
    assert.deepEqual(guarded.now(), guarded.before)
  })
})

describe('an archive with devices (C8)', () => {
  it('0:0, which overlayfs takes for a whiteout', () => refuses(() => [device('d', 'char', 0, 0)]))
  for (const [major, minor] of [
    [-1, 3],
    [1, -1],
    [2 ** 12, 0],
    [0, 2 ** 20],
    [2 ** 32 + 1, 3],
    [1, 2 ** 40],
  ] as const)
    it(`${major}:${minor}, which the kernel would cut`, () => refuses(() => [device('d', 'block', major, minor)]))
  it('in range: are made', () =>
    contains(
      () => [device('sda', 'block', 8, 0), { name: 'p', type: '6', mode: 0o600 }],
      ['./p fifo 0:0', './sda block 8:0'],
    ))
})
