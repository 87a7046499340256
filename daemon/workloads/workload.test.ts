/** What a workload makes of the resources of a container. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { LinuxContainerResources } from '#proto/generated/api.ts'
import { type Workload, withWorkload, workloadOf } from './workload.ts'

const management: Workload = {
  activationAnnotation: 'target.workload.openshift.io/management',
  annotationPrefix: 'resources.workload.openshift.io',
  allowedAnnotations: [],
  resources: { cpushares: 100, cpuset: '0-1' },
}
const ACTIVE = { 'target.workload.openshift.io/management': '{"effect":"PreferredDuringScheduling"}' }
const requested = LinuxContainerResources.fromPartial({ cpuShares: 2n, memoryLimitInBytes: 5n, cpusetCpus: '7' })

const decided = (pod: Record<string, string>, workload: Workload = management) => {
  const found = workloadOf({ management: workload }, pod)
  const { cpuShares, cpuQuota, cpuPeriod, cpusetCpus, memoryLimitInBytes } =
    withWorkload(requested, found, pod, 'web') ?? {}
  return { cpuShares, cpuQuota, cpuPeriod, cpusetCpus, memoryLimitInBytes }
}

test('a pod without the annotation keeps what it asked for', () => {
  assert.equal(workloadOf({ management }, { constructor: 'x' }), undefined)
  assert.equal(withWorkload(requested, undefined, {}, 'web'), requested)
  assert.equal(workloadOf({ management: { ...management, activationAnnotation: 'constructor' } }, {}), undefined)
})

test('of several workloads that a pod belongs to it is the first by name', () => {
  const other = { ...management, resources: { cpushares: 7 } }
  assert.equal(workloadOf({ b: management, a: other }, ACTIVE), other)
  assert.equal(workloadOf({ a: management, b: other }, ACTIVE), management)
})

test('only annotations below the prefix are read, and none without one', () => {
  const { annotationPrefix: _, ...withoutPrefix } = management
  assert.equal(decided({ ...ACTIVE, 'undefined/web': '{"cpushares": 40}' }, withoutPrefix).cpuShares, 100n)
  const inherited = Object.create({ 'resources.workload.openshift.io/web': '{"cpushares": 40}' })
  assert.equal(decided(Object.assign(inherited, ACTIVE)).cpuShares, 100n)
})

test('the node decides, memory stays', () => {
  assert.deepEqual(decided(ACTIVE), {
    cpuShares: 100n,
    cpuQuota: 0n,
    cpuPeriod: 0n,
    cpusetCpus: '0-1',
    memoryLimitInBytes: 5n,
  })
})

test('the annotation of a container overrides what it names, and only for that container', () => {
  const pod = {
    ...ACTIVE,
    'resources.workload.openshift.io/web': '{"cpushares": 40, "cpulimit": 35}',
    'resources.workload.openshift.io/other': '{"cpushares": 2}',
  }
  const { cpuShares, cpuQuota, cpusetCpus } = decided(pod)
  assert.deepEqual({ cpuShares, cpuQuota, cpusetCpus }, { cpuShares: 40n, cpuQuota: 3500n, cpusetCpus: '0-1' })
})

test('a limit becomes a quota of its period, a millisecond at least; a quota of the annotation overrules the limit of the node', () => {
  const limited = { ...management, resources: { cpulimit: 1, cpuperiod: 50_000 } }
  assert.equal(decided(ACTIVE, limited).cpuQuota, 1000n)
  assert.equal(decided(ACTIVE, { ...limited, resources: { cpulimit: 500, cpuperiod: 50_000 } }).cpuQuota, 25_000n)
  const own = { ...ACTIVE, 'resources.workload.openshift.io/web': '{"cpuquota": 7000}' }
  assert.equal(decided(own, limited).cpuQuota, 7000n)
  const both = { ...ACTIVE, 'resources.workload.openshift.io/web': '{"cpuquota": 7000, "cpulimit": 200}' }
  assert.equal(decided(both, limited).cpuQuota, 10_000n)
  assert.equal(decided(own, limited).cpuPeriod, 50_000n)
})

test('an annotation that is malformed refuses the container', () => {
  for (const text of [
    '',
    '{',
    'null',
    '[]',
    '{"cpushares": "40"}',
    '{"cpuset": "x"}',
    '{"cpuset": ""}',
    '{"cpushares": 1}',
    '{"cpushares": 262145}',
    '{"cpuquota": 999}',
    '{"cpuperiod": 999}',
    '{"cpuperiod": 1000001}',
    '{"cpulimit": 0}',
    // Too long, though nothing is wrong with it.
    `{"cpushares": 40}${' '.repeat(4096)}`,
    '{"memory": 1}',
    '{"cpushares": 1e99}',
    `{"cpuset":"${'1,'.repeat(3000)}1"}`,
  ]) {
    assert.throws(
      () => decided({ ...ACTIVE, 'resources.workload.openshift.io/web': text }),
      (error) => isKind(error, 'invalid-argument') && /resources\.workload\.openshift\.io\/web/.test(error.message),
      text,
    )
  }
})
