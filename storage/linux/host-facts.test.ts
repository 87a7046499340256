import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { release } from 'node:os'
import { test } from 'node:test'
import { capabilityNames, probeHost } from './host-facts.ts'

test('the facts agree with what the host says otherwise', () => {
  const facts = probeHost()
  assert.equal(facts.kernel.release, release())
  assert.ok(facts.kernel.major >= 5)
  assert.equal(facts.arch, process.arch === 'arm64' ? 'arm64' : 'amd64')
  assert.ok(facts.boundingCapabilities.includes('CAP_CHOWN'))
  assert.equal(
    facts.hugetlbMounted,
    execFileSync('/bin/cat', ['/proc/mounts'], { encoding: 'utf8' }).includes(' hugetlbfs '),
  )
  assert.ok(facts.cgroup.controllers.size > 0)
})

test('capability masks', () => {
  assert.deepEqual(capabilityNames(0n), [])
  assert.deepEqual(capabilityNames(0x1000020n), ['CAP_KILL', 'CAP_SYS_RESOURCE'])
  assert.equal(capabilityNames(0x1ffffffffffn).length, 41)
  assert.equal(capabilityNames(0x1ffffffffffn).at(-1), 'CAP_CHECKPOINT_RESTORE')
})
