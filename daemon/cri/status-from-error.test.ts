import assert from 'node:assert/strict'
import { test } from 'node:test'
import { status } from '@grpc/grpc-js'
import { RuntimeError } from '#proto/errors.ts'
import { silentLog } from '#proto/log.ts'
import { statusFromError } from './status-from-error.ts'

test('the kind of the thrown error decides, not one in its causes', () => {
  const error = new RuntimeError('failed-precondition', 'no', { cause: new RuntimeError('not-found', 'gone') })
  assert.deepEqual(statusFromError(error, 'X', silentLog), { code: status.FAILED_PRECONDITION, details: 'no' })
})

test('a sentinel is UNKNOWN and the first word of the message, once', () => {
  const expected = { code: status.UNKNOWN, details: 'RegistryUnavailable: no route' }
  assert.deepEqual(statusFromError(new RuntimeError('registry-unavailable', 'no route'), 'X', silentLog), expected)
  assert.deepEqual(
    statusFromError(new RuntimeError('registry-unavailable', 'RegistryUnavailable: no route'), 'X', silentLog),
    expected,
  )
})

test('an error with a numeric code of its own never passes for a gRPC status', () => {
  const exit5 = Object.assign(new Error('helper failed'), { code: 5 })
  assert.equal(statusFromError(exit5, 'StopContainer', silentLog).code, status.INTERNAL)
})

test('a host that is short of something is RESOURCE_EXHAUSTED', () => {
  const error = Object.assign(new Error('spawn runc EAGAIN'), { code: 'EAGAIN' })
  const { code, details } = statusFromError(error, 'CreateContainer', silentLog)
  assert.equal(code, status.RESOURCE_EXHAUSTED)
  assert.match(details, /^CreateContainer failed for want of .*EAGAIN/)
})

test('a disk that takes or gives nothing more is UNAVAILABLE, and no defect', () => {
  for (const code of ['EROFS', 'EIO']) {
    const told = statusFromError(Object.assign(new Error(`${code}: of a disk`), { code }), 'RunPodSandbox', silentLog)
    assert.equal(told.code, status.UNAVAILABLE)
    assert.match(told.details, new RegExp(code))
  }
})
