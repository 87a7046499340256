/** The options of overlayfs that an operator may ask for, on real mounts. */
import assert from 'node:assert/strict'
import { chmodSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { type Linux, linux } from '#linux/linux.ts'
import { isKind } from '#proto/errors.ts'
import { archive, dir, file } from '../tar/testing/tarsmith.ts'
import { temporaryStorage } from '../testing/temporary-storage.ts'
import type { SnapshotOptions } from './open-drivers.ts'

describe('overlay options', () => {
  const open = async (t: TestContext, overlay: Partial<SnapshotOptions['overlay']>, given: Linux = linux) => {
    const all = { metacopy: false, redirectDir: false, volatile: false, ...overlay }
    const temporary = await temporaryStorage(t, { linux: given, snapshots: { driver: 'overlay', overlay: all } })
    const { diffId } = await temporary.unpack(archive(dir('d'), file('d/f', 'x'.repeat(100_000))))
    const mountpoint = temporary.mountpoint('c')
    await temporary.storage.rootfs.create({ id: 'c', layers: [diffId], mountpoint })
    const upper = join(temporary.root, 'rootfs/c/upper')
    const superOptions = linux.readMountInfo().find((mount) => mount.mountpoint === mountpoint)?.superOptions ?? []
    return { temporary, mountpoint, upper, superOptions }
  }

  it('are off unless asked for', async (t) => {
    const { superOptions } = await open(t, {})
    for (const option of ['volatile', 'metacopy=on', 'redirect_dir=on', 'index=on'])
      assert.equal(superOptions.includes(option), false, option)
  })

  it('metacopy: a change of mode copies no data', async (t) => {
    const { superOptions, mountpoint, upper, temporary } = await open(t, { metacopy: true })
    assert.ok(superOptions.includes('metacopy=on'))
    chmodSync(join(mountpoint, 'd/f'), 0o600)
    // A block for the attribute that says so, on some file systems.
    assert.ok(statSync(join(upper, 'd/f')).blocks <= 8)
    assert.equal(readFileSync(join(mountpoint, 'd/f')).length, 100_000)
    assert.ok((await temporary.storage.rootfs.measure('c')).bytes < 50_000)
  })

  it('redirectDir: a directory of the image is renamed without a copy of what is in it', async (t) => {
    const { mountpoint, upper } = await open(t, { redirectDir: true })
    renameSync(join(mountpoint, 'd'), join(mountpoint, 'e'))
    assert.deepEqual(readdirSync(join(upper, 'e')), [])
    assert.equal(readFileSync(join(mountpoint, 'e/f')).length, 100_000)
  })

  it('volatile: mounted again within one boot, refused after a crash of the host', async (t) => {
    let boot = 'first'
    const { superOptions, mountpoint, temporary } = await open(t, { volatile: true }, { ...linux, bootId: () => boot })
    // Newer kernels say "fsync=volatile".
    assert.match(superOptions.join(','), /volatile/)
    writeFileSync(join(mountpoint, 'note'), 'kept')
    const { rootfs } = temporary.storage
    await rootfs.unmount('c')
    await rootfs.mount('c', mountpoint)
    assert.equal(readFileSync(join(mountpoint, 'note'), 'utf8'), 'kept')
    await temporary.reopen()
    await temporary.storage.rootfs.unmount('c')
    boot = 'second'
    await assert.rejects(
      temporary.storage.rootfs.mount('c', mountpoint),
      (error) => isKind(error, 'failed-precondition') && /volatile/.test(String(error)),
    )
    assert.equal(linux.isMountpoint(mountpoint), false)
    await temporary.storage.rootfs.remove('c')
    assert.deepEqual(temporary.storage.rootfs.list(), [])
  })
})
