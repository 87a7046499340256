/** What a copied tree must not lose: holes, long names, names that are no text, attributes; and what it must not follow. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  closeSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  readSync,
  statSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { scratch } from '#linux/testing/scratch.ts'
import { lgetXattr } from '#linux/xattr.ts'
import { isKind } from '#proto/errors.ts'
import { archive, dir, file, gnuLong, pax, symlink } from '../tar/testing/tarsmith.ts'
import { WorkerPool } from '../tar/worker-pool.ts'
import { canary, describeTree, temporaryStorage } from '../testing/temporary-storage.ts'

describe('a whole copy', () => {
  it('has the holes of a file, not zeros in their place', async (t) => {
    const directory = scratch(t)
    const [tree, target] = [join(directory, 'tree'), join(directory, 'target')]
    mkdirSync(tree)
    mkdirSync(target)
    const fd = openSync(join(tree, 'sparse'), 'w')
    ftruncateSync(fd, 2 ** 28)
    writeSync(fd, 'middle', 2 ** 27)
    closeSync(fd)
    const pool = new WorkerPool({ size: 1, idleMs: 1000 })
    t.after(() => pool.close())
    const { bytes, inodes } = await pool.run('copy', { trees: [tree], target, form: 'flat' })
    const copy = statSync(join(target, 'sparse'))
    assert.deepEqual([copy.size, inodes], [2 ** 28, 2])
    assert.ok(copy.blocks * 512 < 2 ** 20 && bytes < 2 ** 20, `${copy.blocks} blocks`)
    const read = openSync(join(target, 'sparse'), 'r')
    const middle = Buffer.alloc(6)
    readSync(read, middle, 0, 6, 2 ** 27)
    closeSync(read)
    assert.equal(middle.toString(), 'middle')
  })

  it('has names as long as they can be, and names that are no text', async (t) => {
    const temporary = await temporaryStorage(t, { snapshots: { driver: 'copy' } })
    const deep = `${'d'.repeat(200)}/`.repeat(20)
    const long = `${deep}${'f'.repeat(4094 - deep.length)}`
    const { diffId } = await temporary.unpack(
      archive(gnuLong('L', long), file('x', 'deep'), file('caf\xe9', 'latin'), symlink('odd', '\xff')),
    )
    await temporary.storage.rootfs.create({ id: 'c', layers: [diffId], mountpoint: temporary.mountpoint('c') })
    const found = execFileSync('find', ['-printf', '%d %f\\n'], { cwd: temporary.mountpoint('c'), encoding: 'latin1' })
    assert.match(found, /^21 f{74}$/m)
    assert.match(found, /^1 caf\xe9$/m)
    assert.equal(readlinkSync(join(temporary.mountpoint('c'), 'odd'), 'latin1'), '\xff')
  })

  it('has the attributes of users, and each file the label that was asked for', async (t) => {
    const temporary = await temporaryStorage(t, { snapshots: { driver: 'copy' } })
    const noted = pax({ 'SCHILY.xattr.user.note': 'n' })
    const { diffId } = await temporary.unpack(archive(noted, file('f'), dir('d'), symlink('l', 'f')))
    const label = 'system_u:object_r:container_file_t:s0:c1,c2'
    const mountpoint = temporary.mountpoint('c')
    await temporary.storage.rootfs.create({ id: 'c', layers: [diffId], mountpoint, options: [`context=${label}`] })
    assert.equal(lgetXattr(join(mountpoint, 'f'), 'user.note')?.toString(), 'n')
    for (const name of ['.', 'f', 'd', 'l'])
      assert.equal(lgetXattr(join(mountpoint, name), 'security.selinux')?.toString(), `${label}\0`)
  })

  it('follows no link of one layer while it applies the next', async (t) => {
    const temporary = await temporaryStorage(t, { snapshots: { driver: 'copy' } })
    const outside = canary(temporary.directory)
    const link = await temporary.unpack(archive(symlink('a', outside.path), symlink('b', '../../../../../..')))
    const through = await temporary.unpack(archive(dir('a'), file('a/secret', 'overwritten'), file('b/tmp/x')))
    const layers = [link.diffId, through.diffId]
    const before = [link, through].map(({ path }) => describeTree(path))
    await temporary.storage.rootfs.create({ id: 'c', layers, mountpoint: temporary.mountpoint('c') })
    assert.equal(readFileSync(join(temporary.mountpoint('c'), 'a/secret'), 'utf8'), 'overwritten')
    assert.ok(lstatSync(join(temporary.mountpoint('c'), 'b')).isDirectory())
    assert.deepEqual(outside.now(), outside.before)
    assert.deepEqual(
      [link, through].map(({ path }) => describeTree(path)),
      before,
    )
  })

  it('can be given up, and leaves the worker usable', async (t) => {
    const directory = scratch(t)
    for (const name of ['tree', 'target', 'other']) mkdirSync(join(directory, name))
    execFileSync('sh', ['-c', 'for i in $(seq 3000); do : > $i; done'], { cwd: join(directory, 'tree') })
    const pool = new WorkerPool({ size: 1, idleMs: 1000 })
    t.after(() => pool.close())
    const abort = new AbortController()
    const request = { trees: [join(directory, 'tree')], target: join(directory, 'target'), form: 'flat' } as const
    const copied = pool.run('copy', request, abort.signal)
    abort.abort()
    await assert.rejects(copied, (error) => isKind(error, 'cancelled'))
    const { inodes } = await pool.run('copy', { ...request, target: join(directory, 'other') })
    assert.equal(inodes, 3001)
  })
})
