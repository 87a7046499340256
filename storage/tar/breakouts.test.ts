/** Archives that try to leave their layer. Names follow containerd's list of the same tricks where it has one. */
import assert from 'node:assert/strict'
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { canary, describeTree, temporaryStorage } from '../testing/temporary-storage.ts'
import { archive, device, dir, type Forged, file, gnuLong, hardlink, pax, symlink } from './testing/tarsmith.ts'

type Parts = (Forged | Buffer)[]

/** The archive is refused, nothing of it stays, nothing else changes. `{outside}` in names stands for a directory beside the storage. */
const refuses = async (t: TestContext, make: (outside: string) => Parts): Promise<void> => {
  const temporary = await temporaryStorage(t)
  const guarded = canary(temporary.directory)
  const neighbour = await temporary.unpack(archive(dir('n'), file('n/f', 'neighbour')))
  const before = describeTree(neighbour.path)
  await assert.rejects(temporary.unpack(archive(...make(guarded.path))), (error) => {
    assert.ok(isKind(error, 'failed-precondition'), String(error))
    return true
  })
  await temporary.storage.trashEmptied()
  assert.deepEqual(readdirSync(join(temporary.root, 'temp')), [])
  assert.deepEqual(readdirSync(join(temporary.root, 'trash')), [])
  assert.equal(temporary.storage.layers.list().length, 1)
  assert.deepEqual(describeTree(neighbour.path), before)
  assert.deepEqual(guarded.now(), guarded.before)
}

/** The archive stays inside: its tree has exactly these lines (modes and owners left out), nothing outside changes. */
const contains = async (t: TestContext, make: (outside: string) => Parts, expected: string[]): Promise<void> => {
  const temporary = await temporaryStorage(t)
  const guarded = canary(temporary.directory)
  const layer = await temporary.unpack(archive(...make(guarded.path)))
  const lines = describeTree(layer.path).map((line) => line.replace(/ [0-7]{4} \d+:\d+/, ''))
  assert.deepEqual(lines.slice(1), expected)
  assert.deepEqual(guarded.now(), guarded.before)
}

const etc = [dir('etc/'), file('etc/passwd', 'inside')]

describe('an archive with links', () => {
  it('SymlinkAbsolute: an absolute link means the layer root', (t) =>
    contains(t, () => [dir('etc'), symlink('localetc', '/etc'), file('localetc/unbroken', 'x')], [
      './etc dir',
      './etc/unbroken "x"',
      './localetc -> /etc',
    ]))
  it('SymlinkAbsolute, to a host directory: is made inside', (t) =>
    contains(t, () => [symlink('out', '/tmp/x/../y'), file('out/f', 'x')], [
      './out -> /tmp/x/../y',
      './tmp dir',
      './tmp/x dir',
      './tmp/y dir',
      './tmp/y/f "x"',
    ]))
  it('SymlinkAbsolute to the canary: the canary is not written', async (t) => {
    const temporary = await temporaryStorage(t)
    const guarded = canary(temporary.directory)
    await temporary.unpack(archive(symlink('out', guarded.path), file('out/secret', 'stolen'), file('out/new', 'x')))
    assert.deepEqual(guarded.now(), guarded.before)
  })
  it('SymlinkUpAndOut: `..` stops at the layer root', (t) =>
    contains(
      t,
      () => [dir('etc'), dir('dummy'), symlink('localetc', '/dummy/../etc'), file('localetc/unbroken', 'x')],
      ['./dummy dir', './etc dir', './etc/unbroken "x"', './localetc -> /dummy/../etc'],
    ))
  it('SymlinkUpAndOut: `../../../..` stops at the layer root', (t) =>
    contains(t, () => [symlink('up', '../../../../../../../..'), file('up/f', 'x')], [
      './f "x"',
      './up -> ../../../../../../../..',
    ]))
  it('SymlinkMultipleAbsolute', (t) =>
    contains(
      t,
      () => [dir('etc'), dir('dummy'), symlink('dummy/etc', '/etc'), symlink('l', '/dummy/etc'), file('l/f', 'x')],
      ['./dummy dir', './dummy/etc -> /etc', './etc dir', './etc/f "x"', './l -> /dummy/etc'],
    ))
  it('SymlinkMultipleRelative', (t) =>
    contains(
      t,
      () => [dir('etc'), dir('dummy'), symlink('dummy/etc', '/etc'), symlink('l', './dummy/etc'), file('l/f', 'x')],
      ['./dummy dir', './dummy/etc -> /etc', './etc dir', './etc/f "x"', './l -> ./dummy/etc'],
    ))
  it('SymlinkEmptyFile: the last entry of a name counts, through links too', (t) =>
    contains(t, () => [dir('etc'), file('etc/e', 'notempty'), symlink('l', '/etc'), file('l/e', '')], [
      './etc dir',
      './etc/e ""',
      './l -> /etc',
    ]))
  it('SymlinkOverrideDirectory: a link replaces a directory with what is in it', (t) =>
    contains(t, () => [...etc, symlink('etc', '/elsewhere')], ['./etc -> /elsewhere']))
  it('DirectoryOverrideSymlink: a directory replaces a link', (t) =>
    contains(t, () => [...etc, symlink('l', '/etc'), file('l/a', 'x'), dir('l/'), file('l/b', 'y')], [
      './etc dir',
      './etc/a "x"',
      './etc/passwd "inside"',
      './l dir opaque',
      './l/b "y"',
    ]))
  it('SymlinkOverridePath: a file replaces a link and leaves its target alone', (t) =>
    contains(t, () => [...etc, symlink('l', '/etc/passwd'), file('l', 'new')], [
      './etc dir',
      './etc/passwd "inside"',
      './l "new"',
    ]))
  it('SymlinkSlashEnded', (t) =>
    contains(t, () => [dir('etc'), symlink('l/', '/etc/'), file('l/f', 'x')], [
      './etc dir',
      './etc/f "x"',
      './l -> /etc/',
    ]))
  it('a chain of links that never ends is refused', (t) =>
    refuses(t, () => [symlink('a', 'b'), symlink('b', 'a'), file('a/f', 'x')]))
  it('links that multiply each other are refused', (t) =>
    refuses(t, () => [
      dir('d'),
      ...Array.from({ length: 12 }, (_, i) =>
        symlink(`l${i + 1}`, `l${i}/../l${i}/..`.replace(/^l0\/..\/l0/, 'd/../d')),
      ),
      file('l12/f', 'x'),
    ]))
  it('SymlinkParentDirectory: a link called ".."', (t) => refuses(t, () => [...etc, symlink('..', '/etc')]))
  it('SymlinkParentRelative: a name through ".."', (t) =>
    refuses(t, () => [...etc, symlink('l', '/etc'), file('l/../../x', 'x')]))
  it('SymlinkEmptyFilename', (t) => refuses(t, () => [...etc, symlink('', '/etc')]))
  it('a link to nothing', (t) => refuses(t, () => [symlink('l', '')]))
  it('a link with a target that is too long', (t) =>
    refuses(t, () => [gnuLong('K', 'x/'.repeat(2100)), symlink('l', 'y')]))
})

describe('an archive with hard links', () => {
  it('HardlinkRelative, HardlinkAbsolute: are names in the layer', (t) =>
    contains(t, () => [...etc, dir('b'), symlink('b/d1', '../../etc'), hardlink('b/m', '/b/d1/passwd')], [
      './b dir',
      './b/d1 -> ../../etc',
      './b/m "inside"',
      './etc dir',
      './etc/passwd "inside"',
    ]))
  it('HardlinkSymlinkRelative: a hard link to a link is the link', (t) =>
    contains(t, () => [...etc, symlink('l', '/etc/passwd'), hardlink('h', 'l')], [
      './etc dir',
      './etc/passwd "inside"',
      './h -> /etc/passwd',
      './l -> /etc/passwd',
    ]))
  it('HardlinkSymlinkChmod: the mode of a hard link entry goes nowhere (CVE-2021-32760)', async (t) => {
    const temporary = await temporaryStorage(t)
    const guarded = canary(temporary.directory)
    const secret = join(guarded.path, 'secret')
    await temporary.unpack(archive(symlink('l', secret), hardlink('h', 'l', { mode: 0o777, uid: 7 })))
    assert.deepEqual(guarded.now(), guarded.before)
  })
  it('HardlinkUpAndOut', (t) => refuses(t, () => [hardlink('h', '../../canary/secret')]))
  it('to a host file through a link (CVE-2026-26960)', (t) =>
    refuses(t, (outside) => [symlink('a', '/'), symlink('a/b', outside), hardlink('h', 'a/b/secret')]))
  it('to a host file by its absolute name', (t) => refuses(t, (outside) => [hardlink('h', `${outside}/secret`)]))
  it('before its target', (t) => refuses(t, () => [hardlink('h', 'f'), file('f')]))
  it('to a file of a lower layer, which would be shared with it', (t) => refuses(t, () => [hardlink('h', 'n/f')]))
  it('to a directory', (t) => refuses(t, () => [dir('d'), hardlink('h', 'd')]))
  it('to the root', (t) => refuses(t, () => [hardlink('h', '/')]))
  it('to a whiteout, which would be a second, unsigned one', (t) =>
    refuses(t, () => [file('.wh.f'), hardlink('h', 'f')]))
  it('to itself: nothing happens', (t) => contains(t, () => [file('f', 'x'), hardlink('f', './f')], ['./f "x"']))
  it('to a device: the device gets a second name', (t) =>
    contains(t, () => [device('null', 'char', 1, 3), hardlink('h', 'null')], ['./h char 1:3', './null char 1:3']))
})

describe('an archive whose root is no directory (CVE-2021-29136)', () => {
  for (const name of ['.', './', '/', '//', './.']) {
    it(`${JSON.stringify(name)} as a link`, (t) => refuses(t, (outside) => [symlink(name, outside), file('f')]))
    it(`${JSON.stringify(name)} as a file`, (t) => refuses(t, () => [file(name)]))
    it(`${JSON.stringify(name)} as a hard link`, (t) => refuses(t, () => [file('f'), hardlink(name, 'f')]))
    it(`${JSON.stringify(name)} as a device`, (t) => refuses(t, () => [device(name, 'char', 1, 3)]))
  }
  it('keeps the mode and owner of a root directory, never set-id', async (t) => {
    const temporary = await temporaryStorage(t)
    const layer = await temporary.unpack(archive(dir('./', { mode: 0o6751, uid: 1234, gid: 5 })))
    const stat = statSync(layer.path)
    assert.deepEqual([stat.mode & 0o7777, stat.uid, stat.gid], [0o751, 1234, 5])
    assert.deepEqual(layer.root, { mode: 0o751, uid: 1234, gid: 5 })
  })
})

describe('an archive with names that are none', () => {
  it('leading upwards', (t) => refuses(t, () => [file('../canary/secret', 'stolen')]))
  it('leading upwards in the middle', (t) => refuses(t, () => [file('a/../../canary/secret', 'stolen')]))
  it('ending upwards', (t) => refuses(t, () => [dir('a/..')]))
  it('absolute: is inside', (t) => contains(t, () => [file('/etc/shadow', 'x')], ['./etc dir', './etc/shadow "x"']))
  it('empty', (t) => refuses(t, () => [file('')]))
  it('5000 bytes', (t) => refuses(t, () => [gnuLong('L', 'a/'.repeat(2500)), file('x')]))
  it('a part of 256 bytes', (t) => refuses(t, () => [gnuLong('L', 'a'.repeat(256)), file('x')]))
  it('with NUL', (t) => refuses(t, () => [pax({ path: 'a\0b' }), file('x')]))
  it('backslashes, bytes that are no UTF-8, other forms of one character: all are names', (t) =>
    contains(t, () => [file('a\\b'), file('e\xcc\x81'), file('E'), file('e'), file('\xc3\xa9'), file('\xe9')], [
      './E ""',
      './a\\b ""',
      './e ""',
      './e\xcc\x81 ""',
      './\xc3\xa9 ""',
      './\xe9 ""',
    ]))
  it('below a file', (t) => refuses(t, () => [file('f'), file('f/g')]))
  it('below a device', (t) => refuses(t, () => [device('d', 'char', 1, 3), file('d/g')]))
  it('of one thing after another: the last one counts', (t) =>
    contains(
      t,
      () => [file('x', '1'), dir('x'), file('x/y', '2'), symlink('x', '/'), file('x', '3'), device('x', 'char', 1, 3)],
      ['./x char 1:3'],
    ))
})

describe('an archive with whiteouts of what is not its own', () => {
  for (const name of ['.wh.', '.wh..', '.wh...', 'd/.wh.', 'd/.wh..', 'd/.wh...'])
    it(`${name} (WhiteoutRoot, WhiteoutParent, WhiteoutCurrentDirectory)`, (t) =>
      refuses(t, () => [dir('d'), file(name)]))
  it('an entry below a whiteout', (t) => refuses(t, () => [file('.wh.d/f')]))
  it('WhiteoutSymlink: a link of this very layer stays', (t) =>
    contains(t, () => [symlink('l', '/etc'), file('.wh.l'), file('.wh.other')], ['./l -> /etc', './other char 0:0']))
  it('WhiteoutSymlinkPath: through a link to the host, hides inside', async (t) => {
    const temporary = await temporaryStorage(t)
    const guarded = canary(temporary.directory)
    await temporary.unpack(archive(symlink('l', guarded.path), file('l/.wh.secret')))
    assert.deepEqual(guarded.now(), guarded.before)
  })
  it('an opaque marker through a link to the host', async (t) => {
    const temporary = await temporaryStorage(t)
    const guarded = canary(temporary.directory)
    await temporary.unpack(archive(symlink('l', guarded.path), file('l/.wh..wh..opq')))
    assert.deepEqual(guarded.now(), guarded.before)
  })
})

describe('an archive with devices (C8)', () => {
  it('0:0, which overlayfs takes for a whiteout', (t) => refuses(t, () => [device('d', 'char', 0, 0)]))
  for (const [major, minor] of [
    [-1, 3],
    [1, -1],
    [2 ** 12, 0],
    [0, 2 ** 20],
    [2 ** 32 + 1, 3],
    [1, 2 ** 40],
  ] as const)
    it(`${major}:${minor}, which the kernel would cut`, (t) => refuses(t, () => [device('d', 'block', major, minor)]))
  it('in range: are made', (t) =>
    contains(t, () => [device('sda', 'block', 8, 0), { name: 'p', type: '6', mode: 0o600 }], [
      './p fifo 0:0',
      './sda block 8:0',
    ]))
})
