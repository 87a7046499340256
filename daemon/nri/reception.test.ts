/** Where plugins come from: the directory of installed ones, and a socket that is root's alone. */
import assert from 'node:assert/strict'
import { chmod, mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import type { Log } from '#proto/log.ts'
import { installedPlugins } from './installed-plugins.ts'
import type { PluginHost } from './meet-plugin.ts'
import { openPluginSocket } from './plugin-socket.ts'
import { Plugins } from './plugins.ts'
import { Reception } from './reception.ts'

function told() {
  const lines: string[] = []
  const note = (message: string, fields?: object) => void lines.push(`${message} ${JSON.stringify(fields ?? {})}`)
  const log: Log = { debug: note, info: note, warn: note, error: note, child: () => log }
  return { log, lines }
}

async function scratch(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'nri-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  return dir
}

const program = async (path: string, text = '#!/bin/sh\nexit 3\n', mode = 0o755) => {
  await writeFile(path, text)
  await chmod(path, mode)
}

describe('installed plugins', () => {
  test('are programs with an index and a name, each with its configuration', async (t) => {
    const { log, lines } = told()
    const dir = await scratch(t)
    const [plugins, conf] = [join(dir, 'plugins'), join(dir, 'conf.d')]
    await mkdir(plugins)
    await mkdir(conf)
    for (const name of ['20-b', '10-a', '30-c', 'nameless', '99-']) await program(join(plugins, name))
    await program(join(plugins, '40-text'), 'x', 0o644)
    await program(join(plugins, '50-open'), 'x', 0o777)
    await writeFile(join(conf, '10-a.conf'), 'of 10-a')
    await writeFile(join(conf, 'a.conf'), 'of a')
    await writeFile(join(conf, 'b.conf'), 'of b')
    const found = await installedPlugins(plugins, conf, log)
    assert.deepEqual(
      found.map(({ identity, config }) => [identity.index, identity.base, config]),
      [
        ['10', 'a', 'of 10-a'],
        ['20', 'b', 'of b'],
        ['30', 'c', ''],
      ],
    )
    const bad = lines.join('\n')
    for (const name of ['nameless', '99-', '50-open']) assert.match(bad, new RegExp(name))
    assert.doesNotMatch(bad, /40-text/)
  })

  test('are none where there is no directory', async (t) => {
    const dir = await scratch(t)
    assert.deepEqual(await installedPlugins(join(dir, 'none'), dir, told().log), [])
  })

  test('that end or are no program keep nobody from starting', async (t) => {
    const dir = await scratch(t)
    await program(join(dir, '10-ends'), '#!/bin/sh\necho why >&2\nexit 3\n')
    await program(join(dir, '30-broken'), '#!/no/such/interpreter\n')
    const said = await received(dir, 60_000)
    assert.match(said, /Cannot take in a plugin .*10-ends/)
    assert.match(said, /An installed plugin has ended .*10-ends.*exit code 3: why/)
    assert.match(said, /Cannot start an installed plugin .*30-broken/)
  })

  test('that hang are ended', async (t) => {
    const dir = await scratch(t)
    await program(join(dir, '20-hangs'), '#!/bin/sh\nexec sleep 1000\n')
    const said = await received(dir, 100)
    assert.match(said, /Cannot take in a plugin .*20-hangs.*did not register within 100 ms/)
    assert.match(said, /An installed plugin has ended .*20-hangs.*SIGTERM/)
  })
})

/** What was said while these plugins were started and ended. */
async function received(pluginDir: string, registrationTimeoutMs: number): Promise<string> {
  const { log, lines } = told()
  const plugins = noPlugins(log)
  const host = hostOf(log, registrationTimeoutMs)
  const reception = new Reception({ pluginDir, pluginConfigDir: pluginDir, socket: undefined, plugins, log, host })
  await reception.open()
  await reception.close()
  return lines.join('\n')
}

const noPlugins = (log: Log): Plugins =>
  new Plugins({
    log,
    synchronizeTimeoutMs: 60_000,
    snapshot: async () => ({ pods: [], containers: [] }),
    apply: async () => {},
  })

const hostOf = (log: Log, registrationTimeoutMs: number): PluginHost => ({
  registrationTimeoutMs,
  requestTimeoutMs: 60_000,
  log,
  claim: () => {},
  update: async () => ({ failed: [] }),
})

describe('the socket for plugins', () => {
  test('is for root alone, in a directory of its own, and is taken over from a daemon that was killed', async (t) => {
    const { log } = told()
    const dir = await scratch(t)
    const path = join(dir, 'nri', 'nri.sock')
    const socket = await openPluginSocket(path, (each) => each.destroy(), log)
    assert.equal((await stat(path)).mode & 0o777, 0o600)
    assert.equal((await stat(join(dir, 'nri'))).mode & 0o777, 0o700)
    await assert.rejects(
      openPluginSocket(path, () => {}, log),
      /another process does/,
    )
    socket.close()
    assert.deepEqual(await readdir(join(dir, 'nri')), [])
  })

  test('never takes the place of another file', async (t) => {
    const dir = await scratch(t)
    await writeFile(join(dir, 'file'), 'precious')
    await assert.rejects(
      openPluginSocket(join(dir, 'file'), () => {}, told().log),
      /it is no socket/,
    )
  })

  test('has room for many, not for any number', async (t) => {
    const { log, lines } = told()
    const path = join(await scratch(t), 'nri.sock')
    const [plugins, host] = [noPlugins(log), hostOf(log, 60_000)]
    const reception = new Reception({ pluginDir: '/none', pluginConfigDir: '/none', socket: path, plugins, log, host })
    await reception.open()
    const clients = Array.from({ length: 70 }, () => connect(path))
    let closed = 0
    const turnedAway = Promise.withResolvers<void>()
    for (const client of clients) {
      client.on('error', () => {})
      client.on('close', () => ++closed === 6 && turnedAway.resolve())
    }
    await turnedAway.promise
    for (const client of clients) client.destroy()
    await reception.close()
    assert.equal(lines.filter((line) => /Too many plugins/.test(line)).length, 6)
  })
})
