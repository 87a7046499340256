import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { cgroupsPath, hostCgroupPath } from './cgroup-path.ts'

test('cgroupfs: a directory below the parent', () => {
  assert.equal(cgroupsPath('cgroupfs', '/kubepods/burstable/pod1', 'c1'), '/kubepods/burstable/pod1/c1')
  assert.equal(cgroupsPath('cgroupfs', 'kubepods//pod1/', 'c1'), '/kubepods/pod1/c1')
  assert.equal(cgroupsPath('cgroupfs', '', 'c1'), '/cricket/c1')
  assert.equal(hostCgroupPath('/kubepods/pod1/c1'), '/kubepods/pod1/c1')
})

test('systemd: a scope in the slice, which lies in the slices that its name says', () => {
  const path = cgroupsPath('systemd', '/kubepods.slice/kubepods-pod1.slice', 'c1')
  assert.equal(path, 'kubepods-pod1.slice:cricket:c1')
  assert.equal(hostCgroupPath(path), '/kubepods.slice/kubepods-pod1.slice/cricket-c1.scope')
  assert.equal(cgroupsPath('systemd', '', 'c1'), 'system.slice:cricket:c1')
  assert.equal(hostCgroupPath('-.slice:cricket:c1'), '/cricket-c1.scope')
})

test('a parent that does not fit the driver, or leaves its place, is refused', () => {
  const refused: ['cgroupfs' | 'systemd', string][] = [
    ['cgroupfs', '/a.slice'],
    ['cgroupfs', '/a/../../b'],
    ['cgroupfs', '/a\nb'],
    ['cgroupfs', '/a:b:c'],
    ['systemd', '/kubepods/pod1'],
    ['systemd', 'a--b.slice'],
    ['systemd', '.slice'],
  ]
  for (const [driver, parent] of refused) {
    assert.throws(
      () => cgroupsPath(driver, parent, 'c1'),
      (error) => isKind(error, 'invalid-argument'),
      parent,
    )
  }
})
