import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { isErrno } from './errno.ts'
import { recordLinux } from './recording-linux.ts'
import { scratch } from './testing/scratch.ts'

test('calls do the real thing and are written down in order', (t) => {
  const directory = scratch(t)
  const { linux, calls } = recordLinux()
  linux.mountTmpfs(directory, { mode: 0o700 })
  assert.equal(linux.unmount(directory), true)
  assert.equal(linux.unmount(directory), false)
  assert.deepEqual(calls, [
    { name: 'mountTmpfs', args: [directory, { mode: 0o700 }] },
    { name: 'unmount', args: [directory] },
    { name: 'unmount', args: [directory] },
  ])
})

test('the n-th call fails as asked, and does nothing', async (t) => {
  const directory = scratch(t)
  const { linux, calls, failCall } = recordLinux()
  failCall('fsyncDirectory', 2, 'EIO')
  failCall('writeFileAtomic', 1, 'ENOSPC')
  linux.fsyncDirectory(directory)
  assert.throws(
    () => linux.fsyncDirectory(directory),
    (error) => isErrno(error, 'EIO'),
  )
  linux.fsyncDirectory(directory)
  const writing = linux.writeFileAtomic(join(directory, 'file'), '')
  await assert.rejects(writing, { code: 'ENOSPC', syscall: 'writeFileAtomic' })
  assert.deepEqual(readdirSync(directory), [])
  assert.equal(calls.length, 4)
})

test('one recording can stand on another', () => {
  const below = recordLinux()
  const above = recordLinux(below.linux)
  below.failCall('bootId', 1, 'EACCES')
  assert.throws(() => above.linux.bootId(), { code: 'EACCES' })
  assert.deepEqual([below.calls.length, above.calls.length], [1, 1])
})
