/** Which annotations of a pod count, and under which names. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allowAnnotations } from './allow.ts'

const allow = (pod: Record<string, string>, patterns: string[], container: Record<string, string> = {}) =>
  allowAnnotations({ pod, container, containerName: 'web', patterns })

test('nothing counts that is not allowed, and what was asked in vain is named', () => {
  const pod = { 'umask.crio.io': '077', 'example.com/x': 'y' }
  assert.deepEqual(allow(pod, []), { features: {}, passed: {}, ignored: ['umask.crio.io'] })
})

test('a feature is allowed by any of its names, and asked for by any', () => {
  for (const asked of ['io.cricket.umask', 'umask.crio.io', 'io.kubernetes.cri-o.umask']) {
    for (const pattern of ['io.cricket.umask', 'umask.crio.io', 'io.kubernetes.cri-o.*']) {
      assert.deepEqual(allow({ [asked]: '077' }, [pattern]).features, { umask: '077' }, `${asked} by ${pattern}`)
    }
  }
})

test('the word for a container comes before the word for its pod, and that for others does not count', () => {
  const pod = { 'io.cricket.cpu-quota': 'a', 'cpu-quota.crio.io/web': 'b', 'io.cricket.cpu-quota/other': 'c' }
  assert.deepEqual(allow(pod, ['cpu-quota.crio.io']).features, { cpuQuota: 'b' })
  const { 'cpu-quota.crio.io/web': _, ...rest } = pod
  assert.deepEqual(allow(rest, ['cpu-quota.crio.io']).features, { cpuQuota: 'a' })
})

test('other annotations are passed on by name or by their beginning, the container over the pod', () => {
  const pod = { 'run.oci.x': '1', 'run.oci.y': '2', 'module.wasm.image/variant': 'compat', other: 'z' }
  const { passed } = allow(pod, ['run.oci.*', 'module.wasm.image/variant'], { 'run.oci.y': '3' })
  assert.deepEqual(passed, { 'run.oci.x': '1', 'run.oci.y': '3', 'module.wasm.image/variant': 'compat' })
})

test('what would be ours or systemd’s is never passed on, whatever is allowed', () => {
  const pod = {
    'org.systemd.property.ExecStart': "['/bin/sh']",
    'io.cricket.container-id': 'x',
    'io.kubernetes.cri.container-type': 'sandbox',
    'io.kubernetes.cri-o.umask': '0',
    'umask.crio.io/web': '0',
    'umask.crio.io/other': '0',
  }
  assert.deepEqual(allow(pod, ['*', 'o*', 'io.*', 'org.systemd.property.ExecStart']).passed, {})
})

test('names of the prototype are names like any other', () => {
  assert.deepEqual(allow({ constructor: 'x' }, ['umask.crio.io']), { features: {}, passed: {}, ignored: [] })
})
