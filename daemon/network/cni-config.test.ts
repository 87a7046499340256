import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { findPlugin, missingPlugins, parseNetworkConfig, scanConfigDir } from './cni-config.ts'

const directory = (t: TestContext, files: Record<string, unknown> = {}): string => {
  const dir = mkdtempSync(join(tmpdir(), 'cricket-cni-config-'))
  t.after(() => rmSync(dir, { recursive: true }))
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(dir, name), typeof content === 'string' ? content : JSON.stringify(content))
  }
  return dir
}

const list = (name: string) => ({ cniVersion: '1.0.0', name, plugins: [{ type: 'bridge' }] })

const refused = (content: unknown): string => {
  try {
    parseNetworkConfig('f', typeof content === 'string' ? content : JSON.stringify(content))
  } catch (error) {
    assert.ok(isKind(error, 'failed-precondition'))
    return error.message
  }
  return assert.fail('was accepted')
}

test('scanConfigDir() takes the first usable file by name and says why it passed others over', (t) => {
  const dir = directory(t, {
    '00-readme.txt': 'no',
    '.05-hidden.conf': list('hidden'),
    '10-broken.conflist': '{',
    '20-nameless.conf': { cniVersion: '1.0.0', type: 'bridge' },
    '30-good.conflist': list('good'),
    '40-later.conflist': list('later'),
  })
  mkdirSync(join(dir, '15-directory.conf'))
  const { config, skipped } = scanConfigDir(dir)
  assert.equal(config?.name, 'good')
  assert.equal(config?.file, join(dir, '30-good.conflist'))
  assert.deepEqual(
    skipped.map(({ file, reason }) => [file.slice(dir.length + 1), reason.slice(0, 12)]),
    [
      ['10-broken.conflist', 'is not valid'],
      ['15-directory.conf', 'is not a fil'],
      ['20-nameless.conf', '"name": Inva'],
    ],
  )
})

test('scanConfigDir() of a directory that is missing or empty finds nothing', (t) => {
  const dir = directory(t)
  assert.deepEqual(scanConfigDir(dir), { config: undefined, skipped: [] })
  assert.deepEqual(scanConfigDir(join(dir, 'missing')), { config: undefined, skipped: [] })
})

test('parseNetworkConfig() makes a chain of a single plugin and keeps what it does not know', () => {
  const single = {
    cniVersion: '0.4.0',
    name: 'n',
    type: 'bridge',
    bridge: 'br7',
    ipam: { type: 'host-local', subnet: 'x' },
  }
  const config = parseNetworkConfig('f.conf', JSON.stringify(single))
  assert.equal(config.plugins.length, 1)
  assert.equal(config.plugins[0]?.bridge, 'br7')
  assert.deepEqual(config.plugins[0]?.ipam, { type: 'host-local', subnet: 'x' })
})

test('parseNetworkConfig() reads disableCheck as a value or a word', () => {
  for (const disableCheck of [true, 'true']) {
    assert.equal(parseNetworkConfig('f', JSON.stringify({ ...list('n'), disableCheck })).disableCheck, true)
  }
})

test('parseNetworkConfig() chooses the newest version that both sides know', () => {
  const version = (fields: object) =>
    parseNetworkConfig('f', JSON.stringify({ name: 'n', plugins: [{ type: 'x' }], ...fields })).cniVersion
  assert.equal(version({ cniVersion: '0.3.1' }), '0.3.1')
  assert.equal(version({ cniVersion: '1.0.0', cniVersions: ['0.4.0', '1.1.0', '9.0.0'] }), '1.1.0')
  assert.match(refused({ ...list('n'), cniVersion: '0.2.0' }), /"cniVersion"/)
  assert.match(refused({ name: 'n', type: 'x' }), /"cniVersion"/)
})

test('CVE-2021-20206: a plugin type that leads out of the plugin directories is refused', () => {
  for (const type of ['../../bin/sh', '/bin/sh', '..', '.', '', 'a\0b', 'a b', 7, null]) {
    assert.match(refused({ ...list('n'), plugins: [{ type }] }), /"plugins\.0\.type"/, String(type))
    assert.match(refused({ ...list('n'), plugins: [{ type: 'x', ipam: { type } }] }), /"plugins\.0\.ipam\.type"/)
  }
})

test('parseNetworkConfig() refuses names, shapes and empty chains that no plugin can work with', () => {
  assert.match(refused({ ...list('../x') }), /"name"/)
  assert.match(refused({ ...list('n'), plugins: [] }), /at least one plugin/)
  assert.match(refused({ ...list('n'), plugins: 'bridge' }), /"plugins"/)
  assert.match(refused('[]'), /expected object/)
  assert.match(refused('null'), /expected object/)
  assert.match(refused('{"cniVersion"'), /not valid JSON/)
})

test('missingPlugins() names plugins and address managers that are not installed', (t) => {
  const dir = directory(t, { present: '#!/bin/sh\n', notexec: '' })
  mkdirSync(join(dir, 'adirectory'))
  writeFileSync(join(dir, 'runs'), '#!/bin/sh\n', { mode: 0o755 })
  const config = parseNetworkConfig(
    'f',
    JSON.stringify({
      ...list('n'),
      plugins: [{ type: 'runs', ipam: { type: 'no-ipam' } }, { type: 'notexec' }, { type: 'adirectory' }],
    }),
  )
  assert.deepEqual(missingPlugins(config, ['/nonexistent', dir]), ['no-ipam', 'notexec', 'adirectory'])
  assert.equal(findPlugin('runs', ['/nonexistent', dir]), join(dir, 'runs'))
})
