import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { silentLog } from '#proto/log.ts'
import { UNKNOWN_FEATURES } from './runtime-features.ts'
import { openRuntimeHandlers, runtimeHandlers } from './runtime-handlers.ts'

const handler = (name: string) => ({ name, path: `/usr/bin/${name}`, root: `/run/${name}`, features: UNKNOWN_FEATURES })

test('an empty name is the default handler', () => {
  const handlers = runtimeHandlers('runc', [handler('runc'), handler('crun')])
  assert.equal(handlers.resolve('').path, '/usr/bin/runc')
  assert.equal(handlers.resolve('crun').root, '/run/crun')
})

test('an unknown handler is refused by name, with the names there are', () => {
  const handlers = runtimeHandlers('runc', [handler('runc'), handler('crun')])
  for (const name of ['kata', '__proto__', 'constructor', '../runc']) {
    assert.throws(
      () => handlers.resolve(name),
      (error) =>
        isKind(error, 'invalid-argument') && /"runc", "crun"/.test(error.message) && error.message.includes(name),
    )
  }
})

test('a runtime that is not installed keeps its handler, with nothing promised', async () => {
  const config = { default: 'gone', handlers: { gone: { path: '/no/such/runtime', root: '/run/gone' } } }
  const handlers = await openRuntimeHandlers(config, silentLog)
  assert.equal(handlers.resolve('').features.recursiveReadOnlyMounts, false)
})

test('a handler that was dropped still serves the pods made with it', () => {
  const before = runtimeHandlers('runc', [handler('runc'), handler('crun')])
  const now = runtimeHandlers('runc', [handler('runc'), handler('youki')], before)
  assert.equal(now.resolve('crun').path, '/usr/bin/crun')
  assert.throws(
    () => now.offered('crun'),
    (error) => isKind(error, 'invalid-argument'),
  )
  assert.equal(now.offered('youki').name, 'youki')
  assert.throws(
    () => now.resolve('kata'),
    (error) => isKind(error, 'invalid-argument'),
  )
  assert.deepEqual(
    now.list().map(({ name }) => name),
    ['runc', 'youki'],
  )
})
