import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cgroupsPath, hostCgroupPath } from './cgroup-path.ts'

test('a cgroupfs path is the parent and the id, always absolute', () => {
  assert.equal(cgroupsPath('cgroupfs', '/kubepods/besteffort/pod1', 'abc'), '/kubepods/besteffort/pod1/abc')
  assert.equal(cgroupsPath('cgroupfs', '', 'abc'), '/abc')
  assert.equal(hostCgroupPath('/kubepods/pod1/abc'), '/kubepods/pod1/abc')
})

test('a systemd path names the slice, and lies below the slices that its dashes spell', () => {
  const parent = '/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice'
  const path = cgroupsPath('systemd', parent, 'abc')
  assert.equal(path, 'kubepods-burstable-pod1.slice:cricket:abc')
  assert.equal(
    hostCgroupPath(path),
    '/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cricket-abc.scope',
  )
  assert.equal(hostCgroupPath(cgroupsPath('systemd', '', 'abc')), '/system.slice/cricket-abc.scope')
})
