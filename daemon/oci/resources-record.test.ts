import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LinuxContainerResources } from '#proto/generated/api.ts'
import { mergeResources, noResources, resourcesRecord } from './resources-record.ts'

const of = LinuxContainerResources.fromPartial

test('a field at zero changes nothing; the OOM score is not changed at all', () => {
  const current = of({ cpuShares: 100n, cpuQuota: -1n, memoryLimitInBytes: 64n, oomScoreAdj: 5n, cpusetCpus: '0' })
  assert.deepEqual(mergeResources(current, noResources()), current)
  const changed = mergeResources(current, of({ cpuShares: 7n, oomScoreAdj: 900n, cpusetMems: '0' }))
  assert.deepEqual(changed, { ...current, cpuShares: 7n, cpusetMems: '0' })
})

test('a container without swap stays without; a swap limit of its own stays', () => {
  const none = of({ memoryLimitInBytes: 64n, memorySwapLimitInBytes: 64n })
  assert.equal(mergeResources(none, of({ memoryLimitInBytes: 32n })).memorySwapLimitInBytes, 32n)
  const some = of({ memoryLimitInBytes: 64n, memorySwapLimitInBytes: 128n })
  assert.equal(mergeResources(some, of({ memoryLimitInBytes: 32n })).memorySwapLimitInBytes, 128n)
  const unset = of({ memoryLimitInBytes: 64n })
  assert.equal(mergeResources(unset, of({ memoryLimitInBytes: 32n })).memorySwapLimitInBytes, 0n)
})

test('huge pages are merged by size, unified values by key', () => {
  const current = of({
    hugepageLimits: [{ pageSize: '2MB', limit: 1n }],
    unified: { 'memory.high': '1', 'memory.min': '2' },
  })
  const change = of({
    hugepageLimits: [
      { pageSize: '1GB', limit: 3n },
      { pageSize: '2MB', limit: 0n },
    ],
    unified: { 'memory.high': 'max' },
  })
  const merged = mergeResources(current, change)
  assert.deepEqual(merged.hugepageLimits, [
    { pageSize: '2MB', limit: 0n },
    { pageSize: '1GB', limit: 3n },
  ])
  assert.deepEqual(merged.unified, { 'memory.high': 'max', 'memory.min': '2' })
})

test('what is written is read back', () => {
  const resources = of({
    cpuQuota: -1n,
    memoryLimitInBytes: 2n ** 60n,
    hugepageLimits: [{ pageSize: '2MB', limit: 1n }],
  })
  const text = JSON.stringify(resources, (_key, value) => (typeof value === 'bigint' ? value.toString() : value))
  assert.deepEqual(resourcesRecord.parse(JSON.parse(text)), resources)
})
