/** Devices, mount sources and profiles as they are on a host. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { mknod } from '#linux/mknod.ts'
import { mount, setPropagation, unmount } from '#linux/mount.ts'
import { isKind } from '#proto/errors.ts'
import { Mount } from '#proto/generated/api.ts'
import { readSeccompProfile } from './read-seccomp-profile.ts'
import { hostDevices, resolveDevices } from './resolve-devices.ts'
import { resolveMountSources } from './resolve-mounts.ts'

const root = mkdtempSync(join(tmpdir(), 'cricket-oci-'))
after(() => rmSync(root, { recursive: true, force: true }))
const skip = process.getuid?.() === 0 ? false : 'host lacks root'
const failed = (error: unknown) => isKind(error, 'failed-precondition')

test('a device node resolves to its numbers, a directory to every device below it', { skip }, () => {
  const directory = join(root, 'devices')
  mkdirSync(join(directory, 'sub'), { recursive: true })
  mknod(join(directory, 'null'), { type: 'char', mode: 0o640, major: 1, minor: 3 })
  mknod(join(directory, 'sub/wide'), { type: 'block', mode: 0o600, major: 259, minor: 70_000 })
  symlinkSync('null', join(directory, 'link'))
  const [only] = resolveDevices([{ hostPath: join(directory, 'link'), containerPath: '/dev/mine', permissions: 'r' }])
  assert.equal(only?.containerPath, '/dev/mine')
  assert.deepEqual([only?.device.major, only?.device.minor, only?.device.mode], [1, 3, 0o640])
  const all = resolveDevices([{ hostPath: directory, containerPath: '', permissions: 'rw' }], root)
  assert.deepEqual(all.map(({ containerPath }) => containerPath).toSorted(), [
    join(directory, 'null'),
    join(directory, 'sub/wide'),
  ])
  const wide = all.find(({ device }) => device.type === 'b')?.device
  assert.deepEqual([wide?.major, wide?.minor], [259, 70_000])
  mkdirSync(join(root, 'empty'))
  // A tree that is not the devices' is never searched: it may be large, and /proc is not even readable throughout.
  symlinkSync('/proc', join(root, 'way-out'))
  for (const hostPath of ['/no/such/device', '/etc/passwd', '/', '/proc', directory, join(root, 'way-out')]) {
    assert.throws(() => resolveDevices([{ hostPath, containerPath: '', permissions: 'r' }]), failed, hostPath)
  }
  const empty = { hostPath: join(root, 'empty'), containerPath: '', permissions: 'r' }
  assert.throws(() => resolveDevices([empty], root), failed)
})

test("the host's devices are its nodes, without terminals and the like", () => {
  const paths = hostDevices().map(({ path }) => path)
  assert.ok(paths.includes('/dev/null'))
  assert.ok(paths.every((path) => !/^\/dev\/(pts|shm|mqueue|fd|console)/.test(path)))
})

test('a mount source is where its links lead; one that does not exist is made a directory', { skip }, async () => {
  mkdirSync(join(root, 'target'))
  symlinkSync('target', join(root, 'way'))
  const request = (hostPath: string, propagation = 0) =>
    Mount.fromPartial({ containerPath: '/x', hostPath, propagation: propagation as 0 })
  const sources = await resolveMountSources([request(join(root, 'way'))])
  assert.deepEqual(sources.get(0), { path: join(root, 'target'), propagation: 'private' })
  const made = join(root, 'missing/deep')
  assert.deepEqual((await resolveMountSources([request(made)])).get(0), { path: made, propagation: 'private' })
  assert.ok(statSync(made).isDirectory())
  await assert.rejects(resolveMountSources([request('/etc/passwd/below')]), failed)
  await assert.rejects(resolveMountSources([request('relative')]), (error) => isKind(error, 'invalid-argument'))

  mount({ source: 'tmpfs', target: join(root, 'target'), type: 'tmpfs' })
  try {
    mkdirSync(join(root, 'target/below'))
    for (const kind of ['private', 'shared'] as const) {
      setPropagation(join(root, 'target'), kind)
      const found = await resolveMountSources([request(join(root, 'way/below'), 1)])
      assert.equal(found.get(0)?.propagation, kind)
    }
  } finally {
    unmount(join(root, 'target'))
  }
})

test('a seccomp profile is a regular file of bounded size, or the call fails', { skip }, () => {
  writeFileSync(join(root, 'good.json'), '{}')
  assert.equal(readSeccompProfile(join(root, 'good.json')), '{}')
  mknod(join(root, 'fifo'), { type: 'fifo', mode: 0o600, major: 0, minor: 0 })
  writeFileSync(join(root, 'large'), Buffer.alloc(1024 * 1024 + 1))
  for (const name of ['fifo', 'large', 'missing', '.']) {
    assert.throws(() => readSeccompProfile(join(root, name)), failed, name)
  }
})
