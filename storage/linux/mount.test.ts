import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  bindMount,
  isMountpoint,
  mount,
  mountTmpfs,
  readMountInfo,
  remount,
  remountReadonly,
  setPropagation,
  unmount,
} from './mount.ts'
import { parseMountInfoLine } from './mount-info.ts'
import { scratch } from './testing/scratch.ts'

const infoOf = (path: string) => readMountInfo().findLast(({ mountpoint }) => mountpoint === path)

const directories = (base: string, ...names: string[]): string[] =>
  names.map((name) => {
    mkdirSync(join(base, name))
    return join(base, name)
  })

test('tmpfs: size, mode, safe flags; unmount tells whether there was anything', (t) => {
  const directory = scratch(t)
  const target = join(directory, 'a b\\c')
  mkdirSync(target)
  mountTmpfs(target, { sizeBytes: 1024 * 1024, mode: 0o750 })
  const info = infoOf(target)
  assert.equal(info?.fsType, 'tmpfs')
  for (const option of ['rw', 'nosuid', 'nodev', 'noexec']) assert.ok(info.options.includes(option), option)
  for (const option of ['size=1024k', 'mode=750']) assert.ok(info.superOptions.includes(option), option)
  assert.ok(isMountpoint(target))
  assert.equal(unmount(target), true)
  assert.equal(unmount(target), false)
  assert.equal(unmount(join(directory, 'missing')), false)
  assert.equal(unmount(join(directory, 'missing/below')), false)
  assert.equal(isMountpoint(target), false)
  assert.equal(isMountpoint(join(directory, 'missing')), false)
})

test('unmount does not follow a link, and tells busy from absent', (t) => {
  const directory = scratch(t)
  const [target = ''] = directories(directory, 'm')
  mountTmpfs(target)
  symlinkSync(target, join(directory, 'link'))
  assert.equal(unmount(join(directory, 'link')), false)
  const [inner = ''] = directories(target, 'inner')
  mountTmpfs(inner)
  assert.throws(() => unmount(target), { code: 'EBUSY', syscall: 'umount2', path: target })
  assert.equal(unmount(target, { detach: true }), true)
})

test('bind: read-only for the bind alone, recursive takes what is mounted below', (t) => {
  const directory = scratch(t)
  const [source = '', target = '', deep = ''] = directories(directory, 'source', 'target', 'deep')
  mountTmpfs(source, { flags: ['nosuid'] })
  const [below = ''] = directories(source, 'below')
  mountTmpfs(below)
  bindMount(source, target, { readonly: true })
  assert.throws(() => writeFileSync(join(target, 'x'), ''), { code: 'EROFS' })
  assert.ok(infoOf(target)?.options.includes('nosuid'), 'other attributes stay')
  writeFileSync(join(source, 'x'), '')
  assert.equal(isMountpoint(join(target, 'below')), false)
  bindMount(source, deep, { readonly: true, recursive: true })
  assert.throws(() => writeFileSync(join(deep, 'below/x'), ''), { code: 'EROFS' })
  writeFileSync(join(below, 'x'), '')
})

test('bind of a file counts as a mount point', (t) => {
  const directory = scratch(t)
  writeFileSync(join(directory, 'a'), 'a')
  writeFileSync(join(directory, 'b'), 'b')
  bindMount(join(directory, 'a'), join(directory, 'b'))
  assert.ok(isMountpoint(join(directory, 'b')))
  assert.throws(() => bindMount(directory, join(directory, 'a')), { code: 'ENOTDIR' })
})

test('remount and propagation', (t) => {
  const directory = scratch(t)
  const [target = ''] = directories(directory, 'm')
  mountTmpfs(target)
  remount(target, ['ro'], 'size=2m')
  assert.throws(() => writeFileSync(join(target, 'x'), ''), { code: 'EROFS' })
  remount(target, ['nosuid'])
  writeFileSync(join(target, 'x'), '')
  remountReadonly(target)
  assert.throws(() => writeFileSync(join(target, 'x'), ''), { code: 'EROFS' })
  setPropagation(target, 'shared')
  assert.match(infoOf(target)?.propagation.join() ?? '', /^shared:\d+$/)
  setPropagation(target, 'private')
  assert.deepEqual(infoOf(target)?.propagation, [])
})

test('a failed mount names the target', (t) => {
  const directory = scratch(t)
  assert.throws(() => mount({ source: 'x', target: directory, type: 'no-such-fs' }), {
    code: 'ENODEV',
    syscall: 'mount',
    path: directory,
  })
  assert.deepEqual(readdirSync(directory), [])
})

test('mountinfo lines', () => {
  const line = '36 35 98:0 /mnt1 /a\\040b\\134c rw,noatime master:1 shared:2 - ext3 /dev/my\\040root rw,errors=continue'
  assert.deepEqual(parseMountInfoLine(line), {
    id: 36,
    parent: 35,
    device: '98:0',
    root: '/mnt1',
    mountpoint: '/a b\\c',
    options: ['rw', 'noatime'],
    fsType: 'ext3',
    source: '/dev/my root',
    superOptions: ['rw', 'errors=continue'],
    propagation: ['master:1', 'shared:2'],
  })
  assert.equal(parseMountInfoLine('36 35 98:0 / /x rw - tmpfs  rw')?.source, '')
  for (const bad of ['', '36 35', '36 35 98:0 / /x rw shared:1']) assert.equal(parseMountInfoLine(bad), undefined)
})
