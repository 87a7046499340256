/** CDI: names, files, who wins, and what becomes of the spec. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { containerSpec } from '../spec/container-spec.ts'
import { containerConfig, specInput } from '../spec/testing/spec-case.ts'
import { applyCdiEdits } from './apply-edits.ts'
import { cdiDeviceNames } from './device-names.ts'
import { findCdiDevices } from './find-devices.ts'
import { parseCdiName, parseCdiSpec } from './spec-file.ts'

const root = mkdtempSync(join(tmpdir(), 'cricket-cdi-'))
after(() => rmSync(root, { recursive: true, force: true }))

const directory = (name: string, files: Record<string, unknown>): string => {
  const path = join(root, name)
  mkdirSync(path, { recursive: true })
  for (const [file, content] of Object.entries(files)) {
    writeFileSync(join(path, file), typeof content === 'string' ? content : JSON.stringify(content))
  }
  return path
}

const spec = (kind: string, devices: Record<string, object>, containerEdits?: object) => ({
  cdiVersion: '0.6.0',
  kind,
  ...(containerEdits && { containerEdits }),
  devices: Object.entries(devices).map(([name, edits]) => ({ name, containerEdits: edits })),
})

const find = (directories: string[], names: string[]) => {
  const warnings: string[] = []
  return { edits: findCdiDevices(directories, names, (why) => warnings.push(why)), warnings }
}

test('parseCdiName() takes vendor/class=device only', () => {
  assert.deepEqual(parseCdiName('vendor.com/gpu=0'), { kind: 'vendor.com/gpu', device: '0' })
  assert.deepEqual(parseCdiName('vendor.com/gpu=GPU-1:2'), { kind: 'vendor.com/gpu', device: 'GPU-1:2' })
  for (const name of ['', 'gpu', 'vendor.com/gpu', 'vendor.com=0', '/gpu=0', 'v/c=', 'v/c=../x', 'v/c=a b', 'v/c=\n']) {
    assert.equal(parseCdiName(name), undefined, name)
  }
})

test('devices of annotations come after those of the field, each once, and are named when they are malformed', () => {
  const names = (annotations: Record<string, string>, ...fields: string[]) =>
    cdiDeviceNames(containerConfig({ annotations, CDIDevices: fields.map((name) => ({ name })) }))
  const annotations = { 'cdi.k8s.io/b': 'v.com/c=2,v.com/c=1', 'cdi.k8s.io/a': 'v.com/c=3', other: 'v.com/c=4' }
  assert.deepEqual(names(annotations, 'v.com/c=1'), ['v.com/c=1', 'v.com/c=3', 'v.com/c=2'])
  assert.throws(
    () => names({ 'cdi.k8s.io/a': 'v.com/c=1,' }),
    (error) => isKind(error, 'invalid-argument') && /"cdi\.k8s\.io\/a" has ""/.test(error.message),
  )
})

test('parseCdiSpec() refuses what has not the form', () => {
  const good = spec('v.com/c', { d: { env: ['A=1'] } })
  assert.equal(parseCdiSpec(JSON.stringify(good)).devices.size, 1)
  const bad = {
    version: { ...good, cdiVersion: '9.0.0' },
    kind: { ...good, kind: 'c' },
    env: spec('v.com/c', { d: { env: ['A'] } }),
    hook: spec('v.com/c', { d: { hooks: [{ hookName: 'never', path: '/x' }] } }),
    relative: spec('v.com/c', { d: { deviceNodes: [{ path: 'dev/x' }] } }),
    twice: { ...good, devices: [...good.devices, ...good.devices] },
    permissions: spec('v.com/c', { d: { deviceNodes: [{ path: '/dev/x', permissions: 'rwx' }] } }),
  }
  for (const [what, document] of Object.entries(bad)) {
    assert.throws(() => parseCdiSpec(JSON.stringify(document)), Error, what)
  }
})

test('a device is found, a later directory wins, and broken files of others do not matter', () => {
  const etc = directory('etc', {
    'a.json': spec('v.com/c', { d: { env: ['FROM=etc'] }, e: { env: ['E=1'] } }, { env: ['COMMON=1'] }),
    'broken.json': '{',
    'ignored.txt': '{',
    '.hidden.json': '{',
    'other.yaml': 'cdiVersion: "0.5.0"\nkind: other.com/x\ndevices: [{name: y, containerEdits: {env: [Y=1]}}]\n',
  })
  const run = directory('run', { 'b.json': spec('v.com/c', { d: { env: ['FROM=run'] } }) })
  const { edits, warnings } = find([etc, run], ['v.com/c=d', 'v.com/c=e', 'v.com/c=e', 'other.com/x=y'])
  assert.deepEqual(
    edits.map(({ env }) => env),
    [['FROM=run'], ['COMMON=1'], ['E=1'], ['Y=1']],
  )
  assert.equal(warnings.length, 1)
  assert.match(warnings[0] ?? '', /broken\.json/)
})

test('no device, two of a name in one directory, and a FIFO as a file', () => {
  const twice = directory('twice', {
    'a.json': spec('v.com/c', { d: {} }),
    'b.json': spec('v.com/c', { d: {} }),
  })
  execFileSync('mkfifo', [join(twice, 'fifo.json')])
  const failed = (pattern: RegExp) => (error: unknown) =>
    isKind(error, 'failed-precondition') && pattern.test(error.message)
  assert.throws(() => find([twice], ['v.com/c=d']), failed(/a\.json" and ".*b\.json/))
  assert.throws(() => find([twice, join(root, 'missing')], ['v.com/c=x']), failed(/nowhere.*fifo\.json/))
  assert.throws(
    () => find([twice], ['nonsense']),
    (error) => isKind(error, 'invalid-argument'),
  )
})

const built = containerSpec(
  specInput({ container: { envs: ['A=1', 'B=1'], mounts: [{ containerPath: '/m', hostPath: '/x' }] } }),
).spec
const host = { path: '/dev/host', type: 'c', major: 10, minor: 200, mode: 0o600, uid: 5, gid: 6 } as const

test('edits reach environment, devices and their rules, mounts, hooks and groups', () => {
  const edits = {
    env: ['B=2', 'C=3'],
    deviceNodes: [
      { path: '/dev/mine', hostPath: '/dev/host', permissions: 'r' },
      { path: '/dev/given', type: 'b', major: 259, minor: 1, fileMode: 0o600, uid: 7, gid: 8 },
    ],
    mounts: [{ hostPath: '/opt/v', containerPath: '/m', options: ['ro', 'bind'] }],
    hooks: [{ hookName: 'createContainer', path: '/usr/bin/hook', args: ['hook', 'x'], timeout: 3 }],
    additionalGids: [44, 0],
  } as const
  const document = JSON.stringify(spec('v.com/c', { d: edits }))
  const parsed = [...parseCdiSpec(document).devices.values()]
  const made = applyCdiEdits(built, parsed, () => host)
  assert.deepEqual(
    made.process.env.filter((entry) => /^[ABC]=/.test(entry)),
    ['A=1', 'B=2', 'C=3'],
  )
  assert.deepEqual(made.linux.devices, [
    { path: '/dev/mine', type: 'c', major: 10, minor: 200, fileMode: 0o600, uid: 0, gid: 0 },
    { path: '/dev/given', type: 'b', major: 259, minor: 1, fileMode: 0o600, uid: 7, gid: 8 },
  ])
  assert.deepEqual(made.linux.resources.devices?.slice(-2), [
    { allow: true, type: 'c', major: 10, minor: 200, access: 'r' },
    { allow: true, type: 'b', major: 259, minor: 1, access: 'rwm' },
  ])
  assert.deepEqual(
    made.mounts.filter(({ destination }) => destination === '/m'),
    [{ destination: '/m', source: '/opt/v', type: 'bind', options: ['ro', 'bind'] }],
  )
  assert.deepEqual(made.hooks, { createContainer: [{ path: '/usr/bin/hook', args: ['hook', 'x'], timeout: 3 }] })
  assert.deepEqual(made.process.user.additionalGids, [0, 44])
  const twice = applyCdiEdits(made, parsed, () => host)
  assert.equal(twice.hooks?.createContainer?.length, 2)
  assert.equal(twice.linux.devices.length, 2)
})

test('edits that cannot be kept refuse the container', () => {
  for (const edits of [
    { intelRdt: { closID: 'x' } },
    { netDevices: [{ hostInterfaceName: 'eth1', name: 'x' }] },
    { deviceNodes: [{ path: '/dev/x', type: 'p' as const }] },
    { deviceNodes: [{ path: '/dev/x', type: 'b' as const }] },
    { mounts: [{ hostPath: '/x', containerPath: '/proc/self' }] },
    { mounts: [{ hostPath: '/x', containerPath: '/' }] },
  ]) {
    assert.throws(
      () => applyCdiEdits(built, [edits], () => host),
      (error) => isKind(error, 'failed-precondition'),
      JSON.stringify(edits),
    )
  }
})
