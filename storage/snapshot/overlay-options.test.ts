/** The options of overlayfs that an operator may ask for, on real mounts. */
import assert from 'node:assert/strict'
import { chmodSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { type Linux, linux } from '#linux/linux.ts'
import { isKind } from '#proto/errors.ts'
import { silentLog } from '#proto/log.ts'
import { openStorage } from '../storage.ts'
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

  it('stay those of a container when the configuration changes', async (t) => {
    const { mountpoint, temporary } = await open(t, { redirectDir: true })
    renameSync(join(mountpoint, 'd'), join(mountpoint, 'e'))
    await temporary.storage.rootfs.unmount('c')
    await temporary.storage.close()
    temporary.storage = await openStorage({ root: temporary.root, linux, log: silentLog })
    await temporary.storage.rootfs.mount('c', mountpoint)
    assert.equal(readFileSync(join(mountpoint, 'e/f')).length, 100_000)
    renameSync(join(mountpoint, 'e'), join(mountpoint, 'g'))
  })

  it('under which the writable layer means nothing alone keep it from being taken for the changes', async (t) => {
    for (const [option, isRefused] of [
      ['metacopy', true],
      ['redirectDir', true],
      ['volatile', false],
    ] as const)
      await t.test(option, async (each) => {
        const { temporary } = await open(each as TestContext, { [option]: true })
        const changes = temporary.storage.rootfs.changes('c')
        if (isRefused) await assert.rejects(changes, (error) => isKind(error, 'failed-precondition'))
        else await changes
      })
  })

  it('volatile: filled from an archive and mounted once more', async (t) => {
    const { mountpoint, temporary } = await open(t, { volatile: true })
    const path = join(temporary.directory, 'archive.tar')
    writeFileSync(path, archive(file('restored', 'y')))
    await temporary.storage.rootfs.fill('c', path, ['d'])
    assert.deepEqual(readdirSync(mountpoint), ['restored'])
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
