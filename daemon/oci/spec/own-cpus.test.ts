/** Which processors count as a container's own, and which of them further commands get. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LinuxContainerResources } from '#proto/generated/api.ts'
import { exclusiveCpus } from './exclusive-cpus.ts'
import { execCpu } from './exec-cpu.ts'

const own = (cpusetCpus: string, cpuShares: number, parent = '/kubepods/pod1') =>
  exclusiveCpus(LinuxContainerResources.fromPartial({ cpusetCpus, cpuShares: BigInt(cpuShares) }), parent)

test('as many processors as the request counts, in a guaranteed pod, are its own', () => {
  assert.deepEqual(own('2-3', 2048), new Set([2, 3]))
  assert.deepEqual(own('1', 1024, 'kubepods-pod1.slice'), new Set([1]))
})

test('the pool that pods share is nobody’s own', () => {
  assert.equal(own('0-7', 1024), undefined)
  assert.equal(own('2-3', 1536), undefined)
  assert.equal(own('', 1024), undefined)
  assert.equal(own('x', 1024), undefined)
  assert.equal(exclusiveCpus(undefined, ''), undefined)
  for (const parent of ['/kubepods/burstable/pod1', 'kubepods-besteffort-pod1.slice']) {
    assert.equal(own('1', 1024, parent), undefined, parent)
  }
})

test('the first and the last are found whatever the order of the list', () => {
  assert.equal(execCpu('first', '7,2-3'), 2)
  assert.equal(execCpu('last', '7,2-3'), 7)
  assert.equal(execCpu('first', ''), undefined)
  assert.equal(execCpu(undefined, '1'), undefined)
})
