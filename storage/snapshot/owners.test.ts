/** Root file systems for user namespaces: by the kernel's id maps, by copies of layers, and by whole copies, all look the same. */
import assert from 'node:assert/strict'
import { existsSync, lstatSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { type Linux, linux } from '#linux/linux.ts'
import { lgetXattr } from '#linux/xattr.ts'
import { isKind } from '#proto/errors.ts'
import { archive, dir, type Forged, file, hardlink, pax, symlink } from '../tar/testing/tarsmith.ts'
import { describeTree, type TemporaryStorage, temporaryStorage } from '../testing/temporary-storage.ts'
import type { SnapshotOptions } from './open-drivers.ts'

const HOST = 300_000
const idMap = { uids: { hostId: HOST, size: 65_536 }, gids: { hostId: HOST + 100_000, size: 65_536 } }
const otherMap = { uids: { hostId: 500_000, size: 65_536 }, gids: { hostId: 500_000, size: 65_536 } }

/** cap_net_raw=ep, for the root of the host, and for that of a user namespace (linux/capability.h). */
const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex')

const layers: (Forged | Buffer)[][] = [
  [
    dir('./', { mode: 0o751, uid: 7, gid: 8 }),
    dir('etc', { mode: 0o2755, gid: 5 }),
    file('etc/passwd', 'root', { mtime: 77 }),
    file('old', 'x'),
    dir('full'),
    file('full/gone', 'x'),
  ],
  [
    file('bin/su', '#!', { mode: 0o4755, uid: 3 }),
    hardlink('bin/sudo', 'bin/su'),
    symlink('link', '/etc/passwd', { uid: 9, gid: 9 }),
    { name: 'null', type: '3', major: 1, minor: 3, mode: 0o666 },
    { name: 'pipe', type: '6', mode: 0o622, uid: 1 },
    pax({ 'SCHILY.xattr.security.capability': capability.toString('latin1') }),
    file('bin/ping', 'p'),
    file('.wh.old'),
    file('full/.wh..wh..opq'),
    file('full/new', 'y'),
    file('beyond', 'x', { uid: 70_000, gid: 80_000 }),
  ],
  [file('etc/added', 'z', { uid: 11 })],
]

/** A kernel that maps no owners. */
const unable: Linux = { ...linux, canMapIds: () => false }

const ways: Record<string, { linux: Linux; snapshots: Partial<SnapshotOptions> }> = {
  'the kernel': { linux, snapshots: { driver: 'overlay' } },
  'copies of layers': { linux: unable, snapshots: { driver: 'overlay', copyForUserNamespaces: true } },
  'whole copies': { linux: unable, snapshots: { driver: 'copy' } },
}

const stackOf = async ({ unpack }: TemporaryStorage) => {
  const infos = []
  for (const parts of layers) infos.push(await unpack(archive(...parts)))
  return infos
}

const copiesIn = (root: string): string[] => readdirSync(join(root, 'copies'))

for (const [name, options] of Object.entries(ways)) {
  describe(`owners by ${name}`, () => {
    const make = async (t: TestContext) => {
      if (!linux.canMapIds('/tmp') && name === 'the kernel') {
        t.skip('host lacks id-mapped mounts')
        return undefined
      }
      const temporary = await temporaryStorage(t, options)
      const infos = await stackOf(temporary)
      return { temporary, infos, stack: infos.map(({ diffId }) => diffId) }
    }

    it('are those of the namespace, and nothing else about the files changes', async (t) => {
      const made = await make(t)
      if (!made) return
      const { temporary, infos, stack } = made
      const { mountpoint, storage } = temporary
      assert.equal(storage.mapsIds, true)
      const before = infos.map(({ path }) => describeTree(path))
      for (const readonly of [false, true]) {
        const target = mountpoint(`ro-${readonly}`)
        await storage.rootfs.create({ id: `c-${readonly}`, layers: stack, mountpoint: target, idMap, readonly })
        const [uid, gid] = [HOST, HOST + 100_000]
        assert.deepEqual(describeTree(target), [
          `. 0751 ${uid + 7}:${gid + 8} dir`,
          './beyond 0644 65534:65534 "x"',
          `./bin 0755 ${uid}:${gid} dir`,
          `./bin/ping 0644 ${uid}:${gid} "p"`,
          `./bin/su 4755 ${uid + 3}:${gid} "#!"`,
          `./bin/sudo 4755 ${uid + 3}:${gid} "#!"`,
          `./etc 2755 ${uid}:${gid + 5} dir`,
          `./etc/added 0644 ${uid + 11}:${gid} "z"`,
          `./etc/passwd 0644 ${uid}:${gid} "root"`,
          `./full 0755 ${uid}:${gid} dir`,
          `./full/new 0644 ${uid}:${gid} "y"`,
          `./link 0777 ${uid + 9}:${gid + 9} -> /etc/passwd`,
          `./null 0666 ${uid}:${gid} char 1:3`,
          `./pipe 0622 ${uid + 1}:${gid} fifo 0:0`,
        ])
        assert.equal(lstatSync(join(target, 'bin/su')).ino, lstatSync(join(target, 'bin/sudo')).ino)
        assert.equal(statSync(join(target, 'etc/passwd')).mtimeMs, 77_000)
      }
      assert.deepEqual(
        infos.map(({ path }) => describeTree(path)),
        before,
      )
    })

    it('keep the capabilities of files, for the root of the namespace only', async (t) => {
      const made = await make(t)
      if (!made) return
      const { mountpoint, storage } = made.temporary
      await storage.rootfs.create({ id: 'c', layers: made.stack, mountpoint: mountpoint('c'), idMap })
      const value = lgetXattr(join(mountpoint('c'), 'bin/ping'), 'security.capability') ?? assert.fail()
      // Revision 3 names the root in its last word.
      assert.equal(value.readUInt32LE(0) >>> 24, 3)
      assert.deepEqual([value.readUInt32LE(4), value.readUInt32LE(20)], [0x2000, HOST])
    })
  })
}

describe('copies of layers', () => {
  const open = async (t: TestContext) => {
    const temporary = await temporaryStorage(t, ways['copies of layers'])
    const stack = (await stackOf(temporary)).map(({ diffId }) => diffId)
    const create = (id: string, map = idMap, readonly = false) =>
      temporary.storage.rootfs.create({
        id,
        layers: stack,
        mountpoint: temporary.mountpoint(id),
        idMap: map,
        readonly,
      })
    return { temporary, create }
  }

  it('are made once for all containers of a namespace, and go with the last of them', async (t) => {
    const { temporary, create } = await open(t)
    const { root, storage } = temporary
    await Promise.all([create('a'), create('b'), create('volume', idMap, true)])
    // Three layers, and the fix-up for a directory that one of them does not describe.
    const first = copiesIn(root)
    assert.equal(first.length, 4)
    await create('other', otherMap)
    assert.equal(copiesIn(root).length, 8)
    assert.ok(storage.usage().images.inodes > 2 * (storage.blobs.usage().inodes + storage.layers.usage().inodes) - 10)
    await storage.rootfs.remove('other')
    await storage.rootfs.remove('a')
    assert.deepEqual(copiesIn(root).sort(), first.sort())
    await storage.rootfs.remove('volume')
    await storage.rootfs.remove('b')
    assert.deepEqual(copiesIn(root), [])
    // The fix-up stays, of three directories.
    const { images } = storage.usage()
    assert.equal(images.inodes, storage.blobs.usage().inodes + storage.layers.usage().inodes + 3)
  })

  it('are found again after a restart, without those that nobody uses or that are not whole', async (t) => {
    const { temporary, create } = await open(t)
    await create('a')
    await create('b', otherMap)
    const hasProgram = (name: string): boolean => existsSync(join(temporary.root, 'copies', name, 'diff/bin/su'))
    const damaged = copiesIn(temporary.root).find(hasProgram) ?? assert.fail('no copy has the program')
    writeFileSync(join(temporary.root, 'copies', damaged, 'record.json'), '')
    await temporary.reopen()
    assert.equal(copiesIn(temporary.root).length, 7)
    await temporary.storage.trashEmptied()
    for (const id of ['a', 'b'])
      assert.ok(statSync(join(temporary.mountpoint(id), 'bin/su')), 'who stands on it keeps it')
    await temporary.storage.rootfs.remove('a')
    await temporary.storage.rootfs.unmount('b')
    await temporary.storage.rootfs.mount('b', temporary.mountpoint('b'))
    assert.equal(copiesIn(temporary.root).length, 4)
    assert.equal(statSync(join(temporary.mountpoint('b'), 'bin/su')).uid, 500_003)
    await temporary.storage.rootfs.remove('b')
    assert.deepEqual(copiesIn(temporary.root), [])
  })

  it('are not made unless asked for: the kernel cannot, so the container is refused', async (t) => {
    const temporary = await temporaryStorage(t, { linux: unable, snapshots: { driver: 'overlay' } })
    const { diffId } = await temporary.unpack(archive(file('f')))
    assert.equal(temporary.storage.mapsIds, false)
    const create = temporary.storage.rootfs.create({
      id: 'c',
      layers: [diffId],
      mountpoint: temporary.mountpoint('c'),
      idMap,
      image: 'example/app:1',
    })
    await assert.rejects(
      create,
      (error) => isKind(error, 'failed-precondition') && /example\/app:1/.test(String(error)),
    )
    assert.deepEqual(temporary.storage.rootfs.list(), [])
  })
})
