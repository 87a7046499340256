/** Hard links to files of lower layers: what is seen is what applying the layers one after the other would give. */
import assert from 'node:assert/strict'
import { lstatSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { lgetXattr } from '#linux/xattr.ts'
import { isKind } from '#proto/errors.ts'
import { archive, device, dir, type Forged, file, hardlink, pax, symlink } from './tar/testing/tarsmith.ts'
import { canary, describeTree, temporaryStorage } from './testing/temporary-storage.ts'

type Layers = (Forged | Buffer)[][]

const MEBIBYTE = 2 ** 20

for (const driver of ['overlay', 'copy'] as const) {
  const temporary = await temporaryStorage({ after }, { snapshots: { driver } })
  const guarded = canary(temporary.directory)
  let count = 0

  const unpacked = async (layers: Layers) =>
    Promise.all(layers.map(async (parts) => (await temporary.unpack(archive(...parts))).diffId))

  const seen = async (layers: Layers): Promise<{ lines: string[]; at: (path: string) => string }> => {
    const stack = await unpacked(layers)
    await temporary.storage.complete(stack)
    const id = `c${++count}`
    const mountpoint = temporary.mountpoint(id)
    await temporary.storage.rootfs.create({ id, layers: stack, mountpoint })
    return { lines: describeTree(mountpoint).slice(1), at: (path) => join(mountpoint, path) }
  }

  const check = async (layers: Layers, expected: string[]): Promise<void> =>
    assert.deepEqual((await seen(layers)).lines, expected)

  /** The layers are whole, but do not go together: nothing of the attempt stays, and nothing changes. */
  const refuses = async (layers: Layers): Promise<void> => {
    const stack = await unpacked(layers)
    const trees = temporary.storage.layers.list().map(({ path }) => describeTree(path))
    const fixUps = readdirSync(join(temporary.root, 'fix-ups'))
    for (const attempt of [
      () => temporary.storage.complete(stack),
      () =>
        temporary.storage.rootfs.create({ id: 'refused', layers: stack, mountpoint: temporary.mountpoint('refused') }),
    ])
      await assert.rejects(attempt, (error) => {
        assert.ok(isKind(error, 'failed-precondition'), String(error))
        return true
      })
    await temporary.storage.trashEmptied()
    for (const place of ['temp', 'trash']) assert.deepEqual(readdirSync(join(temporary.root, place)), [])
    assert.deepEqual(readdirSync(join(temporary.root, 'fix-ups')), fixUps)
    assert.deepEqual(
      temporary.storage.layers.list().map(({ path }) => describeTree(path)),
      trees,
    )
    assert.deepEqual(guarded.now(), guarded.before)
  }

  const base = [
    dir('d', { mode: 0o750, uid: 7, mtime: 99 }),
    file('d/f', 'lower', { mode: 0o4755, uid: 5, gid: 6, mtime: 1234 }),
  ]

  describe(`${driver}: a hard link to a file of a lower layer`, () => {
    it('is that file: content, attributes, times; both names are one file, and the layer below is as it was', async () => {
      const capability = '\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
      const noted = pax({ 'SCHILY.xattr.user.note': 'n', 'SCHILY.xattr.security.capability': capability })
      const [d = dir('d'), f = file('d/f')] = base
      const [lower] = await unpacked([[d, noted, f]])
      const path = temporary.storage.layers.list().find(({ diffId }) => diffId === lower)?.path ?? ''
      const before = lstatSync(join(path, 'd/f'), { bigint: true })
      const { lines, at } = await seen([[d, noted, f], [hardlink('h', 'd/f', { mode: 0o777, uid: 9 })]])
      assert.deepEqual(lines, ['./d 0750 7:0 dir', './d/f 4755 5:6 "lower"', './h 4755 5:6 "lower"'])
      assert.equal(statSync(at('h')).ino, statSync(at('d/f')).ino)
      assert.equal(statSync(at('h')).mtimeMs, 1_234_000)
      assert.equal(statSync(at('d')).mtimeMs, 99_000)
      assert.equal(lgetXattr(at('h'), 'user.note')?.toString(), 'n')
      assert.equal(lgetXattr(at('h'), 'security.capability')?.toString('latin1'), capability)
      const { ino, nlink, ctimeNs } = lstatSync(join(path, 'd/f'), { bigint: true })
      assert.deepEqual([ino, nlink, ctimeNs], [before.ino, before.nlink, before.ctimeNs])
    })
    it('is one file under all its names, also of two layers, and of a link to a link', async () => {
      const { lines, at } = await seen([
        base,
        [hardlink('a', 'd/f'), hardlink('b', 'a'), hardlink('new/c', '/d/f')],
        [hardlink('e', 'a')],
      ])
      assert.deepEqual(
        lines.filter((line) => line.includes('lower')).map((line) => line.slice(0, 8)),
        ['./a 4755', './b 4755', './d/f 47', './e 4755', './new/c '],
      )
      const inodesOf = (...names: string[]) => new Set(names.map((name) => statSync(at(name)).ino)).size
      assert.equal(inodesOf('a', 'b', 'd/f', 'new/c'), driver === 'overlay' ? 1 : 2)
      // A copy is made tree by tree.
      assert.equal(inodesOf('a', 'e', 'd/f'), driver === 'overlay' ? 1 : 2)
    })
    it('follows links on the way, of either layer, inside the stack', () =>
      check(
        [
          [
            dir('usr/lib'),
            file('usr/lib/x', 'lib'),
            symlink('lib', '/usr/lib'),
            symlink('up', '../../../../usr'),
            symlink('usr/abs', '/usr/lib'),
          ],
          [hardlink('a', 'lib/x')],
          [hardlink('b', 'up/lib/x'), symlink('own', 'up'), hardlink('c', 'own/lib/x'), hardlink('e', 'usr/abs/x')],
        ],
        [
          './a 0644 0:0 "lib"',
          './b 0644 0:0 "lib"',
          './c 0644 0:0 "lib"',
          './e 0644 0:0 "lib"',
          './lib -> /usr/lib',
          './own -> up',
          './up -> ../../../../usr',
          './usr 0755 0:0 dir',
          './usr/abs -> /usr/lib',
          './usr/lib 0755 0:0 dir',
          './usr/lib/x 0644 0:0 "lib"',
        ].map((line) => (line.includes('->') ? line.replace(' ->', ' 0777 0:0 ->') : line)),
      ))
    it('is a link, a pipe or a device if that is one', () =>
      check(
        [
          [
            symlink('l', '/etc/shadow', { uid: 3 }),
            device('null', 'char', 1, 3),
            { name: 'p', type: '6', mode: 0o600 },
          ],
          [hardlink('a', 'l'), hardlink('b', 'null'), hardlink('c', 'p')],
        ],
        [
          './a 0777 3:0 -> /etc/shadow',
          './b 0644 0:0 char 1:3',
          './c 0600 0:0 fifo 0:0',
          './l 0777 3:0 -> /etc/shadow',
          './null 0644 0:0 char 1:3',
          './p 0600 0:0 fifo 0:0',
        ],
      ))
    it('is another file on another parent', async () => {
      const layer = [hardlink('h', 'f')]
      await check([[file('f', 'one')], layer], ['./f 0644 0:0 "one"', './h 0644 0:0 "one"'])
      await check([[file('f', 'two')], layer], ['./f 0644 0:0 "two"', './h 0644 0:0 "two"'])
      await check([[file('f', 'one')], [file('f', 'two')], layer], ['./f 0644 0:0 "two"', './h 0644 0:0 "two"'])
    })
    it('replaces what was there, and is replaced by what comes', async () => {
      await check([[file('f', 'x'), file('h', 'old')], [hardlink('h', 'f')]], ['./f 0644 0:0 "x"', './h 0644 0:0 "x"'])
      await check(
        [[file('f', 'x')], [hardlink('h', 'f'), file('h', 'new')]],
        ['./f 0644 0:0 "x"', './h 0644 0:0 "new"'],
      )
      await check([[file('f', 'x')], [hardlink('h', 'f'), dir('h')]], ['./f 0644 0:0 "x"', './h 0755 0:0 dir'])
      await check(
        [[file('f', 'x')], [hardlink('h', 'f')], [file('h', 'new')]],
        ['./f 0644 0:0 "x"', './h 0644 0:0 "new"'],
      )
      await check(
        [[file('f', 'x')], [hardlink('h', 'f')], [file('h/in')]],
        ['./f 0644 0:0 "x"', './h 0755 0:0 dir', './h/in 0644 0:0 ""'],
      )
    })
    it('stays when the other name goes, is changed, or was another file of this layer', async () => {
      await check([[file('f', 'x')], [hardlink('h', 'f'), file('.wh.f')]], ['./h 0644 0:0 "x"'])
      await check([[file('f', 'x')], [hardlink('h', 'f')], [file('.wh.f')]], ['./h 0644 0:0 "x"'])
      await check([[file('f', 'x')], [hardlink('h', 'f')], [file('.wh.h')]], ['./f 0644 0:0 "x"'])
      await check(
        [[file('f', 'x')], [hardlink('h', 'f'), file('f', 'new')]],
        ['./f 0644 0:0 "new"', './h 0644 0:0 "x"'],
      )
      await check(
        [[file('d/f', 'x')], [hardlink('h', 'd/f'), file('d/.wh..wh..opq')]],
        ['./d 0755 0:0 dir', './h 0644 0:0 "x"'],
      )
      await check(
        [[file('d/f', 'x')], [hardlink('h', 'd/f'), file('d', 'file')]],
        ['./d 0644 0:0 "file"', './h 0644 0:0 "x"'],
      )
    })
    it('lies in directories as the layers below say', () =>
      check(
        [[...base, dir('e', { mode: 0o700, uid: 8 })], [hardlink('e/h', 'd/f')], [file('e/i')]],
        [
          './d 0750 7:0 dir',
          './d/f 4755 5:6 "lower"',
          './e 0700 8:0 dir',
          './e/h 4755 5:6 "lower"',
          './e/i 0644 0:0 ""',
        ],
      ))
    it('to its own name changes nothing', () => check([[file('f', 'x')], [hardlink('f', 'f')]], ['./f 0644 0:0 "x"']))
  })

  describe(`${driver}: a hard link is refused`, () => {
    it('to nothing', () => refuses([[file('f')], [hardlink('h', 'missing')]]))
    it('of the lowest layer', () => refuses([[hardlink('h', 'f')], [file('f')]]))
    it('to a directory', () => refuses([[dir('d')], [hardlink('h', 'd')]]))
    it('to what is below a file', () => refuses([[file('f')], [hardlink('h', 'f/g')]]))
    it('to what a layer in between hides', async () => {
      await refuses([[file('d/f')], [file('d/.wh.f')], [hardlink('h', 'd/f')]])
      await refuses([[file('d/f')], [file('.wh.d')], [hardlink('h', 'd/f')]])
      await refuses([[file('d/f')], [file('d/.wh..wh..opq')], [hardlink('h', 'd/f')]])
      await refuses([[file('d/f')], [file('.wh..wh..opq')], [hardlink('h', 'd/f')]])
      await refuses([[file('d/f')], [symlink('d', 'elsewhere')], [hardlink('h', 'd/f')]])
      await refuses([[file('d/f')], [file('d')], [file('d/g')], [hardlink('h', 'd/f')]])
    })
    it('to a whiteout of a layer in between', () =>
      refuses([[file('f')], [file('.wh.f')], [hardlink('h', 'f')], [file('f')]]))
    it('to a file of the host, by whatever links', async () => {
      const { path } = guarded
      await refuses([[symlink('l', path)], [hardlink('h', 'l/secret')]])
      await refuses([[symlink('l', `../../../../../../../..${path}`)], [hardlink('h', 'l/secret')]])
      await refuses([[file('x')], [hardlink('h', `${path}/secret`)]])
      await refuses([
        [symlink('a', '/'), symlink('b', 'a/..')],
        [symlink('c', 'b/../..'), hardlink('h', `c${path}/secret`)],
      ])
    })
    it('through links that never end, or multiply each other', async () => {
      await refuses([[symlink('a', 'b'), symlink('b', 'a')], [hardlink('h', 'a/f')]])
      const many = Array.from({ length: 12 }, (_, i) => symlink(`l${i + 1}`, i === 0 ? 'd/../d' : `l${i}/../l${i}`))
      await refuses([[dir('d'), file('d/f'), ...many], [hardlink('h', 'l12/f')]])
    })
  })

  describe(`${driver}: room for hard links`, () => {
    const big = 'x'.repeat(MEBIBYTE)
    it('is that of one copy, however many names there are, and is counted and given back', async () => {
      const links = Array.from({ length: 1000 }, (_, i) => hardlink(`h${i}`, i % 2 === 0 ? 'f' : 'g'))
      const stack = await unpacked([[file('f', big), hardlink('g', 'f')], links])
      const before = temporary.storage.usage().images
      await temporary.storage.complete(stack)
      const copies = temporary.storage.usage().images.bytes - before.bytes
      assert.ok(copies >= MEBIBYTE && copies < MEBIBYTE + 32_768, `${copies} bytes`)
      const layers = temporary.storage.layers.list().filter(({ diffId }) => stack.includes(diffId))
      const keep = new Set(temporary.storage.layers.list().map(({ diffId }) => diffId))
      for (const { diffId } of layers) await temporary.storage.layers.remove(diffId)
      await temporary.storage.collectGarbage({ keep })
      const ofLayers = layers.reduce((sum, { bytes }) => sum + bytes, 0)
      assert.equal(temporary.storage.usage().images.bytes, before.bytes - ofLayers)
    })
    it('is never more than the layers themselves take', async () => {
      const stack = await unpacked([
        [file('f', big), hardlink('g', 'f'), file(driver)],
        [hardlink('h', 'f')],
        [hardlink('i', 'g'), file(driver)],
      ])
      await temporary.storage.complete(stack.slice(0, 2))
      await assert.rejects(temporary.storage.complete(stack), (error) => isKind(error, 'resource-exhausted'))
    })
  })
}

describe('a layer with hard links to lower ones', () => {
  const layers = [[file('d/f', 'lower')], [hardlink('h', 'd/f')]]

  const made = async (t: { after(cleanUp: () => Promise<void>): void }) => {
    const temporary = await temporaryStorage(t)
    const stack: Awaited<ReturnType<typeof temporary.unpack>>[] = []
    for (const parts of layers) stack.push(await temporary.unpack(archive(...parts)))
    const diffIds = stack.map(({ diffId }) => diffId)
    await temporary.storage.complete(diffIds)
    const [fixUp = ''] = readdirSync(join(temporary.root, 'fix-ups'))
    return { temporary, diffIds, fixUp: join(temporary.root, 'fix-ups', fixUp) }
  }

  it('is not taken when it has too many', async (t) => {
    const temporary = await temporaryStorage(t, { limits: { lowerLinks: 3 } })
    const links = Array.from({ length: 4 }, (_, i) => hardlink(`h${i}`, 'f'))
    await assert.rejects(temporary.unpack(archive(...links)), (error) => isKind(error, 'resource-exhausted'))
  })

  it('is not taken when it hides what it links to', async (t) => {
    const temporary = await temporaryStorage(t)
    for (const parts of [
      [file('.wh.f'), hardlink('h', 'f')],
      [file('.wh.d'), hardlink('h', 'd/f')],
      [file('d/.wh..wh..opq'), hardlink('h', 'd/e/f')],
      [file('.wh..wh..opq'), hardlink('h', 'f')],
    ])
      await assert.rejects(temporary.unpack(archive(...parts)), (error) => isKind(error, 'failed-precondition'))
  })

  it('is whole after a restart; its copies are found damaged, made anew, and kept for who stands on them', async (t) => {
    const { temporary, diffIds, fixUp } = await made(t)
    await temporary.reopen()
    const mountpoint = temporary.mountpoint('c')
    await temporary.storage.rootfs.create({ id: 'c', layers: diffIds, mountpoint })
    assert.deepEqual((await temporary.storage.check([])).findings, [])
    const { mtime, atime } = lstatSync(join(fixUp, 'diff/h'))
    assert.ok(mtime <= atime)
    truncateSync(join(fixUp, 'diff/h'), 3)
    const { findings } = await temporary.storage.check([])
    assert.deepEqual(
      findings.map(({ kind, remedy }) => [kind, remedy]),
      [['fix-up', 'make anew']],
    )
    await temporary.storage.repair(findings)
    await temporary.storage.trashEmptied()
    assert.equal(readFileSync(join(mountpoint, 'h'), 'utf8'), 'low', 'of before the repair')
    const anew = temporary.mountpoint('anew')
    await temporary.storage.rootfs.create({ id: 'anew', layers: diffIds, mountpoint: anew })
    assert.equal(readFileSync(join(anew, 'h'), 'utf8'), 'lower')
  })

  it('whose record of the copies is damaged does not take them from a container that runs', async (t) => {
    const { temporary, diffIds, fixUp } = await made(t)
    const mountpoint = temporary.mountpoint('c')
    await temporary.storage.rootfs.create({ id: 'c', layers: diffIds, mountpoint })
    writeFileSync(join(fixUp, 'record.json'), '')
    await temporary.reopen()
    await temporary.storage.trashEmptied()
    assert.equal(readFileSync(join(mountpoint, 'h'), 'utf8'), 'lower')
    const quarantined = readdirSync(join(temporary.root, 'quarantine'))
    assert.equal(quarantined.length, 1)
  })

  it('keeps its copies as long as a container stands on it, whatever is put aside', async (t) => {
    const { temporary, diffIds } = await made(t)
    const mountpoint = temporary.mountpoint('c')
    await temporary.storage.rootfs.create({ id: 'c', layers: diffIds, mountpoint })
    for (const diffId of diffIds) await temporary.storage.layers.quarantine(diffId, 'for a test')
    await temporary.storage.collectGarbage({ keep: new Set() })
    await temporary.storage.trashEmptied()
    assert.equal(readFileSync(join(mountpoint, 'h'), 'utf8'), 'lower')
    await temporary.storage.rootfs.remove('c')
    await temporary.storage.collectGarbage({ keep: new Set() })
    await temporary.storage.trashEmptied()
    assert.deepEqual(readdirSync(join(temporary.root, 'fix-ups')), [])
  })

  it('is made anew when its copies are gone', async (t) => {
    const { temporary, diffIds, fixUp } = await made(t)
    await temporary.storage.close()
    rmSync(fixUp, { recursive: true })
    await temporary.reopen()
    const mountpoint = temporary.mountpoint('c')
    await temporary.storage.rootfs.create({ id: 'c', layers: diffIds, mountpoint })
    assert.equal(readFileSync(join(mountpoint, 'h'), 'utf8'), 'lower')
  })
})
