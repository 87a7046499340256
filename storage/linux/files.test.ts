/** The small calls about files: attributes, nodes, confined opening, locks, sizes. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { lockFile } from './flock.ts'
import { deviceMajor, deviceMinor, makeDevice, mknod } from './mknod.ts'
import { mountTmpfs } from './mount.ts'
import { openBeneath, openInRoot } from './openat2.ts'
import { statfs } from './statfs.ts'
import { fallocate, syncfs } from './syncfs.ts'
import { scratch } from './testing/scratch.ts'
import {
  fgetXattr,
  flistXattr,
  fremoveXattr,
  fsetXattr,
  lgetXattr,
  llistXattr,
  lremoveXattr,
  lsetXattr,
} from './xattr.ts'

const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL } = constants
const text = (fd: number): string => {
  try {
    return readFileSync(fd, 'utf8')
  } finally {
    closeSync(fd)
  }
}

test('xattr: values are bytes, links are not followed, absence is undefined', (t) => {
  const directory = scratch(t)
  const file = join(directory, 'file')
  writeFileSync(file, '')
  symlinkSync('file', join(directory, 'link'))
  const value = Buffer.from([0, 1, 255, 0])
  lsetXattr(file, 'trusted.cricket', value)
  lsetXattr(join(directory, 'link'), 'trusted.other', Buffer.alloc(0))
  assert.deepEqual(lgetXattr(file, 'trusted.cricket'), value)
  assert.equal(lgetXattr(file, 'trusted.other'), undefined)
  assert.deepEqual(lgetXattr(join(directory, 'link'), 'trusted.other'), Buffer.alloc(0))
  assert.deepEqual(llistXattr(file), ['trusted.cricket'])
  lremoveXattr(file, 'trusted.cricket')
  assert.deepEqual(llistXattr(file), [])
  assert.throws(() => lremoveXattr(file, 'trusted.cricket'), { code: 'ENODATA', path: file })
  assert.throws(() => lgetXattr(join(directory, 'missing'), 'trusted.x'), { code: 'ENOENT' })
})

test('xattr: long values, open files, names that are not UTF-8', (t) => {
  const directory = scratch(t)
  mountTmpfs(directory)
  const odd = Buffer.concat([Buffer.from(`${directory}/`), Buffer.from([0xff, 0xfe])])
  writeFileSync(odd, '')
  const long = Buffer.alloc(10_000, 'x')
  lsetXattr(odd, 'trusted.long', long)
  assert.deepEqual(lgetXattr(odd, 'trusted.long'), long)
  const fd = openSync(odd, 'r')
  fsetXattr(fd, 'user.y', Buffer.from('y'))
  assert.deepEqual(fgetXattr(fd, 'trusted.long'), long)
  assert.deepEqual(flistXattr(fd).sort(), ['trusted.long', 'user.y'])
  fremoveXattr(fd, 'user.y')
  assert.equal(fgetXattr(fd, 'user.y'), undefined)
  closeSync(fd)
  assert.throws(() => lgetXattr(Buffer.from('a\0b'), 'trusted.x'), TypeError)
})

test('mknod: type, device number and exact mode', (t) => {
  const directory = scratch(t)
  const umask = process.umask(0o077)
  t.after(() => process.umask(umask))
  mknod(join(directory, 'null'), { type: 'char', mode: 0o666, major: 1, minor: 3 })
  mknod(join(directory, 'disk'), { type: 'block', mode: 0o640, major: 0xabc, minor: 0xabcde })
  mknod(join(directory, 'fifo'), { type: 'fifo', mode: 0o6755 })
  mknod(join(directory, 'whiteout'), { type: 'char', mode: 0 })
  const describe = (name: string) => {
    const { mode, rdev } = lstatSync(join(directory, name))
    return { mode: mode.toString(8), major: deviceMajor(rdev), minor: deviceMinor(rdev) }
  }
  assert.deepEqual(describe('null'), { mode: '20666', major: 1, minor: 3 })
  assert.deepEqual(describe('disk'), { mode: '60640', major: 0xabc, minor: 0xabcde })
  assert.deepEqual(describe('fifo'), { mode: '16755', major: 0, minor: 0 })
  assert.deepEqual(describe('whiteout'), { mode: '20000', major: 0, minor: 0 })
  assert.throws(() => mknod(join(directory, 'null'), { type: 'fifo', mode: 0 }), { code: 'EEXIST' })
  for (const [major, minor] of [
    [-1, 0],
    [0x1000, 0],
    [0, 0x100000],
    [0.5, 0],
  ] as const) {
    assert.throws(() => makeDevice(major, minor), RangeError)
  }
})

test('openInRoot: links and ".." stay in the root', (t) => {
  const directory = scratch(t)
  const root = join(directory, 'root')
  mkdirSync(join(root, 'etc'), { recursive: true })
  writeFileSync(join(root, 'etc/passwd'), 'inside')
  symlinkSync('/etc/passwd', join(root, 'absolute'))
  symlinkSync('../../../../../etc/passwd', join(root, 'etc/relative'))
  for (const path of ['/etc/passwd', 'absolute', 'etc/relative', '../../etc/passwd', Buffer.from('etc/passwd')]) {
    assert.equal(text(openInRoot(root, path, O_RDONLY)), 'inside')
  }
  const rootFd = openSync(root, 'r')
  assert.equal(text(openInRoot(rootFd, 'absolute', O_RDONLY)), 'inside')
  closeSync(rootFd)
  mkdirSync(join(root, 'proc'))
  spawnSync('/bin/mount', ['-t', 'proc', 'proc', join(root, 'proc')])
  assert.throws(() => openInRoot(root, 'proc/self/root/etc/passwd', O_RDONLY), {
    code: 'ELOOP',
    path: 'proc/self/root/etc/passwd',
  })
  assert.throws(() => openInRoot(root, 'missing', O_RDONLY), { code: 'ENOENT' })
  const made = openInRoot(root, '/absolute-new', O_WRONLY | O_CREAT | O_EXCL, 0o600)
  assert.equal(fstatSync(made).mode & 0o777, 0o600)
  closeSync(made)
  assert.ok(readdirSync(root).includes('absolute-new'))
})

test('openBeneath: nothing leads out', (t) => {
  const directory = scratch(t)
  const base = join(directory, 'base')
  mkdirSync(base)
  writeFileSync(join(directory, 'secret'), '')
  writeFileSync(join(base, 'file'), 'fine')
  symlinkSync('../secret', join(base, 'out'))
  symlinkSync('/etc/passwd', join(base, 'absolute'))
  symlinkSync('file', join(base, 'link'))
  assert.equal(text(openBeneath(base, 'file', O_RDONLY)), 'fine')
  assert.equal(text(openBeneath(base, 'link', O_RDONLY)), 'fine')
  for (const path of ['../secret', 'out', 'absolute', '/etc/passwd']) {
    assert.throws(() => openBeneath(base, path, O_RDONLY), { code: 'EXDEV', path })
  }
  assert.throws(() => openBeneath(base, 'link', O_RDONLY, 0, { noSymlinks: true }), { code: 'ELOOP' })
})

test('lockFile: one holder, until released or dead', (t) => {
  const path = join(scratch(t), 'lock')
  const lock = lockFile(path)
  assert.throws(() => lockFile(path), { code: 'EWOULDBLOCK', syscall: 'flock', path })
  // A child must not inherit the lock: it would keep it beyond our death.
  const { stdout } = spawnSync('/bin/ls', ['-l', '/proc/self/fd'], { encoding: 'utf8' })
  assert.ok(!stdout.includes(path))
  lock.release()
  lock.release()
  lockFile(path).release()
  assert.equal(statSync(path).mode & 0o777, 0o600)
  symlinkSync('lock', `${path}-link`)
  assert.throws(() => lockFile(`${path}-link`), { code: 'ELOOP' })
})

test('statfs, fallocate, syncfs', async (t) => {
  const directory = scratch(t)
  mountTmpfs(directory, { sizeBytes: 1024 * 1024 })
  const stat = statfs(directory)
  assert.equal(stat.type, 0x01021994)
  assert.equal(stat.blocks * stat.blockSize, 1024 * 1024)
  assert.equal(stat.free, stat.available)
  assert.ok(stat.filesFree > 0 && stat.filesFree < stat.files)
  const file = join(directory, 'file')
  const fd = openSync(file, 'w')
  fallocate(fd, 4096)
  assert.equal(statSync(file).size, 4096)
  assert.throws(() => fallocate(fd, 2 * 1024 * 1024), { code: 'ENOSPC', syscall: 'fallocate' })
  closeSync(fd)
  await syncfs(file)
  await syncfs(directory)
  await assert.rejects(syncfs(join(directory, 'missing')), { code: 'ENOENT' })
  assert.throws(() => statfs(join(directory, 'missing')), { code: 'ENOENT' })
})
