import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { silentLog } from '#proto/log.ts'
import { UNKNOWN_FEATURES } from './runtime-features.ts'
import { openRuntimeHandlers, runtimeHandlers, runtimeUsed } from './runtime-handlers.ts'

const handler = (name: string) => ({
  name,
  path: `/usr/bin/${name}`,
  root: `/run/${name}`,
  features: UNKNOWN_FEATURES,
  createTimeoutSeconds: 240,
})

test('an empty name is the default handler', () => {
  const handlers = runtimeHandlers('runc', [handler('runc'), handler('crun')])
  assert.equal(handlers.offered('').path, '/usr/bin/runc')
  assert.equal(handlers.offered('crun').root, '/run/crun')
})

test('an unknown handler is refused by name, with the names there are', () => {
  const handlers = runtimeHandlers('runc', [handler('runc'), handler('crun')])
  for (const name of ['kata', '__proto__', 'constructor', '../runc']) {
    assert.throws(
      () => handlers.offered(name),
      (error) =>
        isKind(error, 'invalid-argument') && /"runc", "crun"/.test(error.message) && error.message.includes(name),
    )
  }
})

test('a runtime that is not installed keeps its handler, with nothing promised', async () => {
  const config = { default: 'gone', handlers: { gone: { path: '/no/such/runtime', root: '/run/gone' } } }
  const handlers = await openRuntimeHandlers(config, silentLog)
  assert.equal(handlers.offered('').features.recursiveReadOnlyMounts, false)
})

test('a handler that was dropped still serves the pods made with it', () => {
  const before = runtimeHandlers('runc', [handler('runc'), handler('crun')])
  const now = runtimeHandlers('runc', [handler('runc'), handler('youki')], before)
  const made = (runtimeHandler: string) => ({ runtimeHandler })
  assert.equal(now.of(made('crun')).path, '/usr/bin/crun')
  assert.throws(
    () => now.offered('crun'),
    (error) => isKind(error, 'invalid-argument'),
  )
  assert.equal(now.offered('youki').name, 'youki')
  assert.throws(
    () => now.of(made('kata')),
    (error) => isKind(error, 'invalid-argument'),
  )
  assert.deepEqual(
    now.list().map(({ name }) => name),
    ['runc', 'youki'],
  )
})

test('a pod that named no handler keeps the one that was the default, over reloads', () => {
  const before = runtimeHandlers('runc', [handler('runc'), handler('crun')])
  const now = runtimeHandlers('crun', [handler('runc'), handler('crun')], before)
  assert.equal(now.offered('').name, 'crun')
  assert.equal(now.of({ runtimeHandler: '', runtime: runtimeUsed(handler('runc')) }).name, 'runc')
  assert.equal(now.of({ runtimeHandler: '' }).name, 'runc', 'a record of the first versions')
})

test('a pod keeps the program and root that it was made with, whatever its handler is now', () => {
  const made = { runtimeHandler: 'own', runtime: { handler: 'own', path: process.execPath, root: '/run/old' } }
  const moved = { ...handler('own'), createTimeoutSeconds: 7 }
  for (const [now, timeout] of [
    [runtimeHandlers('runc', [handler('runc')]), 240],
    [runtimeHandlers('runc', [moved]), 7],
    [
      runtimeHandlers('own', [moved], runtimeHandlers('own', [{ ...moved, ...made.runtime, createTimeoutSeconds: 9 }])),
      9,
    ],
  ] as const) {
    const { name, path, root, createTimeoutSeconds } = now.of(made)
    assert.deepEqual([name, path, root, createTimeoutSeconds], ['own', process.execPath, '/run/old', timeout])
  }
  const gone = { ...made, runtime: { ...made.runtime, path: '/no/such/program' } }
  assert.equal(runtimeHandlers('own', [moved]).of(gone).path, moved.path, 'the program was replaced by another')
  assert.equal(runtimeHandlers('own', [moved]).of(gone).root, '/run/old')
})
