/** OCI hooks directories: form, conditions, which file counts, and where the hooks end up. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { containerSpec } from '../spec/container-spec.ts'
import { specInput } from '../spec/testing/spec-case.ts'
import { findHooks, withHooks } from './find-hooks.ts'
import { applies, parseHookFile } from './hook-file.ts'

const root = mkdtempSync(join(tmpdir(), 'cricket-hooks-'))
after(() => rmSync(root, { recursive: true, force: true }))

const hookFile = (when: object, rest: object = {}) =>
  JSON.stringify({ version: '1.0.0', hook: { path: '/usr/bin/hook' }, when, stages: ['createRuntime'], ...rest })

const subject = {
  annotations: { 'com.example.trace': 'on', other: '' },
  command: '/usr/bin/server',
  hasBindMounts: true,
}

test('all conditions have to hold, and one at least has to be named', () => {
  const cases: [object, boolean][] = [
    [{ always: true }, true],
    [{ always: false }, false],
    [{}, false],
    [{ hasBindMounts: true }, true],
    [{ hasBindMounts: false }, false],
    [{ commands: ['^/usr/bin/ser', 'x'] }, true],
    [{ commands: ['^server'] }, false],
    [{ annotations: { '^com\\.example\\.trace$': '^on$' } }, true],
    [{ annotations: { '^com\\.example\\.trace$': '^off$' } }, false],
    [{ annotations: { trace: 'on', nobody: '.*' } }, false],
    // The value of another annotation.
    [{ annotations: { '^other$': 'on' } }, false],
    [{ always: true, commands: [] }, true],
    [{ commands: [] }, false],
    [{ always: true, commands: ['nothing'] }, false],
    [{ always: true, hasBindMounts: true, commands: ['server'], annotations: { trace: '' } }, true],
  ]
  for (const [when, expected] of cases) {
    assert.equal(applies(parseHookFile(hookFile(when)), subject), expected, JSON.stringify(when))
  }
  const without = { ...subject, hasBindMounts: false }
  for (const hasBindMounts of [true, false])
    assert.equal(applies(parseHookFile(hookFile({ hasBindMounts })), without), false, `${hasBindMounts}`)
})

test('parseHookFile() refuses what has not the form', () => {
  for (const text of [
    '',
    '{}',
    hookFile({}, { version: '0.1.0' }),
    hookFile({}, { stages: [] }),
    hookFile({}, { stages: ['precreate'] }),
    hookFile({}, { hook: { path: 'relative' } }),
    hookFile({}, { hook: { path: '/x\0y' } }),
    hookFile({}, { hook: { path: '/x', timeout: 0 } }),
    hookFile({}, { hook: { path: '/x', env: ['A=b\0c'] } }),
    hookFile({}, { hook: { path: '/x', unknown: 1 } }),
    hookFile({}, { hook: { path: '/x', env: ['A'] } }),
    hookFile({}, { extra: 1 }),
    hookFile({ sometimes: true }),
    hookFile({ commands: ['('] }),
    hookFile({ annotations: { '(': 'x' } }),
    hookFile({ annotations: { x: '(' } }),
  ]) {
    assert.throws(() => parseHookFile(text), Error, text)
  }
})

const directory = (name: string, files: Record<string, string>): string => {
  const path = join(root, name)
  mkdirSync(path, { recursive: true })
  for (const [file, text] of Object.entries(files)) writeFileSync(join(path, file), text)
  return path
}

test('hooks come in the order of their names, a later directory wins, and a change counts at once', () => {
  const first = directory('first', {
    '20-b.json': hookFile({ always: true }, { hook: { path: '/b', args: ['b', 'x'], timeout: 3 } }),
    '10-a.json': hookFile({ always: true }, { hook: { path: '/a', env: ['A=1'] }, stages: ['prestart', 'poststop'] }),
    '30-c.json': hookFile({ always: true }),
    'ignored.txt': '{',
    '.hidden.json': '{',
  })
  const second = directory('second', { '30-c.json': hookFile({ commands: ['nothing'] }) })
  const directories = [first, second, join(root, 'missing')]
  assert.deepEqual(findHooks(directories, subject), {
    prestart: [{ path: '/a', env: ['A=1'], timeout: 120 }],
    createRuntime: [{ path: '/b', args: ['b', 'x'], timeout: 3 }],
    poststop: [{ path: '/a', env: ['A=1'], timeout: 120 }],
  })
  directory('second', { '15-d.json': hookFile({ always: true }, { hook: { path: '/d' } }) })
  assert.deepEqual(
    findHooks([second, first], subject).createRuntime?.map(({ path }) => path),
    ['/d', '/b', '/usr/bin/hook'],
  )
  rmSync(join(second, '15-d.json'))
  directory('second', { '10-a.json': hookFile({ always: false }) })
  assert.deepEqual(Object.keys(findHooks(directories, subject)), ['createRuntime'])
  assert.deepEqual(findHooks([], subject), {})
})

test('a file that cannot be understood refuses the container by its name', () => {
  const broken = directory('broken', { 'x.json': '{', 'y.json': hookFile({ always: true }) })
  assert.throws(
    () => findHooks([broken], subject),
    (error) => isKind(error, 'failed-precondition') && /broken\/x\.json/.test(error.message),
  )
})

test('a directory that cannot be read, or a file larger than any hook, refuses the container, too', () => {
  const large = directory('large', { 'x.json': hookFile({ always: true }).padEnd(1024 * 1024 + 1) })
  const refused = (pattern: RegExp) => (error: unknown) =>
    isKind(error, 'failed-precondition') && pattern.test(error.message)
  assert.throws(() => findHooks([large], subject), refused(/large\/x\.json/))
  assert.throws(() => findHooks([join(large, 'x.json')], subject), refused(/directory ".*x\.json"/))
})

test('hooks of the directories come after those of devices', () => {
  const { spec } = containerSpec(specInput({}))
  assert.equal(withHooks(spec, {}), spec)
  const device = withHooks(spec, { createRuntime: [{ path: '/device' }] })
  assert.deepEqual(withHooks(device, { createRuntime: [{ path: '/ours' }], poststop: [{ path: '/end' }] }).hooks, {
    createRuntime: [{ path: '/device' }, { path: '/ours' }],
    poststop: [{ path: '/end' }],
  })
})
