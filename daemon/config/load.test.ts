import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { configurationPage, renderConfig, renderDefaultConfig } from './document.ts'
import { defaultConfig, type LoadOptions, loadConfig } from './load.ts'
import { ConfigFile } from './schema.ts'

interface Place {
  dir: string
  file: string
  dropIn(name: string, text: string): void
}

const place = (t: TestContext, text?: string): Place => {
  const dir = mkdtempSync(join(tmpdir(), 'cricket-config-'))
  t.after(() => rmSync(dir, { recursive: true }))
  const file = join(dir, 'config.yaml')
  if (text !== undefined) writeFileSync(file, text)
  return {
    dir,
    file,
    dropIn(name, content) {
      mkdirSync(join(dir, 'config.d'), { recursive: true })
      writeFileSync(join(dir, 'config.d', name), content)
    },
  }
}

/** The lines of the error that loading ends with. */
const complaints = (options: LoadOptions): string[] => {
  try {
    loadConfig(options)
  } catch (error) {
    assert.ok(isKind(error, 'invalid-argument'), String(error))
    return error.message
      .replace(/^Cannot use the configuration:/, '')
      .split('\n')
      .map((line) => line.trim())
      .filter(Boolean)
  }
  return assert.fail('loads without complaint')
}

test('loadConfig() of an absent default file gives the defaults', (t) => {
  const { file } = place(t)
  const config = loadConfig({ defaultFile: file })
  assert.deepEqual(config, defaultConfig())
  assert.equal(config.root, '/var/lib/cricket')
  assert.equal(config.listen, '/run/cricket/cricket.sock')
  assert.equal(config.runtimes.handlers.runc?.root, '/run/cricket/runc')
  assert.deepEqual(config.network.binDirs, ['/opt/cni/bin', '/usr/lib/cni', '/usr/libexec/cni'])
})

test('loadConfig() refuses an absent file that --config names', (t) => {
  const { file } = place(t)
  assert.deepEqual(complaints({ file }), [`${file}: does not exist`])
  assert.deepEqual(complaints({ flags: { config: file } }), [`${file}: does not exist`])
})

test('loadConfig() refuses a directory and a file that is not UTF-8', (t) => {
  const { dir, file } = place(t)
  assert.match(complaints({ file: dir }).join(), /cannot be read/)
  writeFileSync(file, Buffer.from([0x72, 0x3a, 0xff, 0xfe]))
  assert.match(complaints({ file }).join(), /cannot be read/)
})

test('loadConfig() lets drop-ins override in name order: mappings merge, lists replace, flags come last', (t) => {
  const { file, dropIn } = place(t, 'root: /r1\nnetwork: {configDir: /n1, binDirs: [/b1, /b2]}\nlogLevel: warn\n')
  dropIn('20-b.yaml', 'network:\n  binDirs: [/b3]\n')
  dropIn('10-a.yaml', 'root: /r2\nnetwork:\n  binDirs: [/b9]\nstate: /s2\n')
  dropIn('.hidden.yaml', 'nonsense: 1\n')
  dropIn('notes.txt', 'nonsense\n')
  const config = loadConfig({ file, flags: { state: '/s3/' } })
  assert.equal(config.root, '/r2')
  assert.equal(config.state, '/s3')
  assert.equal(config.listen, '/s3/cricket.sock')
  assert.equal(config.logLevel, 'warn')
  assert.deepEqual(config.network, { configDir: '/n1', binDirs: ['/b3'], waitSeconds: 10 })
})

test('loadConfig() reads drop-ins when the default file is absent', (t) => {
  const { file, dropIn } = place(t)
  dropIn('a.yaml', 'logLevel: debug\n')
  assert.equal(loadConfig({ defaultFile: file }).logLevel, 'debug')
})

test('loadConfig() takes a unix:// address', (t) => {
  const { file } = place(t, 'listen: unix:///run/other.sock\n')
  assert.equal(loadConfig({ file }).listen, '/run/other.sock')
})

test('loadConfig() reports all problems with file, line, key, value and what is allowed', (t) => {
  const { file, dropIn } = place(
    t,
    'root: relative/dir\nrooot: /x\nlogLevel: loud\nnetwork:\n  binDirs: /opt\n  bindirs: []\n',
  )
  dropIn('50.yaml', '\nimage:\n  preload:\n    - /ok\n    - 7\nmonitor: node\nsandbox:\n  initPath:\n')
  const dropInFile = join(file, '..', 'config.d', '50.yaml')
  const topLevel = Object.keys(ConfigFile.shape)
    .map((key) => `"${key}"`)
    .join(', ')
  const got = complaints({ file, flags: { state: 'not/absolute', logLevel: 'x' } })
  assert.deepEqual(
    got.toSorted(),
    [
      `${file}:1: "root" must be an absolute path, not "relative/dir"`,
      `${file}:2: "rooot" is not a known key; allowed here are ${topLevel}`,
      `${file}:3: "logLevel" must be one of "debug", "info", "warn", "error", not "loud"`,
      `${file}:5: "network.binDirs" must be a list, not "/opt"`,
      `${file}:6: "network.bindirs" is not a known key; allowed here are "configDir", "binDirs", "waitSeconds", "confTemplate"`,
      `${dropInFile}:5: "image.preload[1]" must be a string, not 7`,
      `${dropInFile}:6: "monitor" must be a mapping of keys, not "node"`,
      `${dropInFile}:8: "sandbox.initPath" must be a string, but has no value`,
      'flag --log-level: "logLevel" must be one of "debug", "info", "warn", "error", not "x"',
      'flag --state: "state" must be an absolute path, not "not/absolute"',
    ].toSorted(),
  )
})

test('loadConfig() names the line of duplicate keys, tabs and broken YAML', (t) => {
  const { file } = place(t, 'root: /a\nstate: /b\nroot: /c\n')
  assert.match(complaints({ file }).join(), /config\.yaml:3: sets the same key twice/)
  writeFileSync(file, 'network:\n\tconfigDir: /x\n')
  assert.match(complaints({ file }).join(), /config\.yaml:2: has a tab in the indentation/)
  writeFileSync(file, 'root: /a\nstate: [/b\n')
  assert.match(complaints({ file }).join(), /config\.yaml:\d: is not valid YAML/)
  writeFileSync(file, 'root: /a\n---\nroot: /b\n')
  assert.match(complaints({ file }).join(), /config\.yaml:\d: is not valid YAML/)
})

test('loadConfig() refuses an empty file and a top level that is no mapping, but not a file of comments', (t) => {
  const { file } = place(t, '')
  assert.match(complaints({ file }).join(), /is empty/)
  writeFileSync(file, '- root\n- /a\n')
  assert.match(complaints({ file }).join(), /config\.yaml:1: must hold a mapping of keys, not \["root","\/a"\]/)
  writeFileSync(file, 'just words\n')
  assert.match(complaints({ file }).join(), /must hold a mapping of keys, not "just words"/)
  writeFileSync(file, '# root: /a\nnetwork:\n#  configDir: /x\n')
  assert.deepEqual(loadConfig({ file }), defaultConfig())
  writeFileSync(file, '# nothing set\n')
  assert.deepEqual(loadConfig({ file }), defaultConfig())
})

test('loadConfig() survives aliases that explode and keys that mean something to JavaScript', (t) => {
  const levels = Array.from(
    { length: 12 },
    (_, n) =>
      `k${n}: &a${n} [${
        n === 0
          ? '1'
          : Array(9)
              .fill(`*a${n - 1}`)
              .join(',')
      }]`,
  )
  const { file } = place(t, `${levels.join('\n')}\n`)
  assert.match(complaints({ file }).join(), /not valid YAML/)
  writeFileSync(file, '__proto__: {root: /x}\nconstructor: 1\n')
  assert.match(complaints({ file }).join('\n'), /"constructor" is not a known key/)
  assert.equal(Object.hasOwn(Object.prototype, 'root'), false)
})

test('loadConfig() checks what only the whole can tell', (t) => {
  const { file, dropIn } = place(t, 'root: /same\n')
  dropIn('1.yaml', 'state: /same/\nruntimes:\n  default: kata\n  handlers:\n    no-such-runtime: {}\n')
  const dropInFile = join(file, '..', 'config.d', '1.yaml')
  assert.deepEqual(complaints({ file }), [
    `${dropInFile}:5: "runtimes.handlers.no-such-runtime" needs a "path": there is no program "no-such-runtime" in /usr/sbin, /usr/bin, /usr/local/sbin, /usr/local/bin`,
    `${dropInFile}:3: "runtimes.default" must be one of the handlers (there are none), not "kata"`,
    `${dropInFile}:1: "state" must not be the same directory as "root", which is "/same"`,
  ])
})

test('loadConfig() gives every handler a root of its own under state', (t) => {
  const { file } = place(
    t,
    'state: /s\nruntimes:\n  handlers:\n    fast: {path: /opt/fast}\n    own: {path: /opt/own, root: /elsewhere}\n',
  )
  const { handlers } = loadConfig({ file }).runtimes
  assert.deepEqual(Object.keys(handlers).toSorted(), ['fast', 'own', 'runc'])
  assert.deepEqual(handlers.fast, { path: '/opt/fast', root: '/s/fast' })
  assert.deepEqual(handlers.own, { path: '/opt/own', root: '/elsewhere' })
})

test('loadConfig() refuses "/" as root and socket paths that the kernel cannot take', (t) => {
  const { file } = place(t, `root: ///\nlisten: /${'x'.repeat(107)}\n`)
  assert.match(
    complaints({ file }).join('\n'),
    /:1: "root" must not be the root directory[\s\S]*:2: "listen" must not be longer than 107 bytes/,
  )
})

test('renderConfig() and renderDefaultConfig() read back as the same configuration', (t) => {
  const { file } = place(t, 'logLevel: debug\nimage: {insecureRegistries: ["localhost:5000"]}\n')
  const config = loadConfig({ file })
  writeFileSync(file, renderConfig(config))
  assert.deepEqual(loadConfig({ file }), config)
  const text = renderDefaultConfig()
  assert.match(text, /# Where CNI plugins are looked for/)
  writeFileSync(file, text)
  assert.deepEqual(loadConfig({ file }), defaultConfig())
})

test('docs/configuration.md is current: node daemon/config/write-page.ts makes it so', () => {
  assert.equal(readFileSync(join(import.meta.dirname, '../../docs/configuration.md'), 'utf8'), configurationPage())
})

test('loadConfig() takes an address for streaming that others can reach only with TLS', (t) => {
  const { file } = place(t, 'streaming:\n  address: 0.0.0.0\n')
  assert.deepEqual(complaints({ file }), [
    `${file}:2: "streaming.address" may be "0.0.0.0" only with "streaming.tls.enabled"`,
  ])
  for (const address of ['::', '192.0.2.1', '::2']) {
    writeFileSync(file, `streaming: {address: "${address}"}\n`)
    assert.match(complaints({ file }).join(), /only with "streaming.tls.enabled"/)
    writeFileSync(file, `streaming: {address: "${address}", tls: {enabled: true}}\n`)
    assert.equal(loadConfig({ file }).streaming.address, address)
  }
  for (const address of ['127.0.0.1', '127.3.2.1', '::1']) {
    writeFileSync(file, `streaming: {address: "${address}"}\n`)
    assert.equal(loadConfig({ file }).streaming.address, address)
  }
})

test('loadConfig() wants certificate and key of the streaming server together, and ciphers that exist', (t) => {
  const { file } = place(t, 'streaming: {tls: {enabled: true, certFile: /c.pem}}\n')
  assert.match(complaints({ file }).join(), /"streaming.tls.certFile" needs "streaming.tls.keyFile" beside it/)
  writeFileSync(file, 'streaming: {tls: {keyFile: /k.pem, ciphers: [ROT13]}}\n')
  assert.match(complaints({ file }).join(), /"streaming.tls.ciphers\[0\]" must be the name of a cipher suite/)
  writeFileSync(file, 'streaming: {tls: {ciphers: [ECDHE-ECDSA-AES128-GCM-SHA256, TLS_AES_128_GCM_SHA256]}}\n')
  assert.equal(loadConfig({ file }).streaming.tls.ciphers.length, 2)
})
