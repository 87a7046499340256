import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { test } from 'node:test'
import { setLinkUp } from './netdev.ts'

// That "lo" comes up in a new namespace is shown in namespaces.test.ts.
test('names that no device has fail and leave no socket', () => {
  const before = readdirSync('/proc/self/fd').length
  for (const name of ['', 'x'.repeat(16), 'does-not-exist']) {
    assert.throws(() => setLinkUp(name), { code: 'ENODEV', syscall: 'ioctl', path: name })
  }
  assert.equal(readdirSync('/proc/self/fd').length, before)
})
