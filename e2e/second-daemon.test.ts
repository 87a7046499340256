/** A second daemon, a socket that is somebody else's, a configuration that is wrong: nothing starts, and the first one goes on. */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { stringify } from 'yaml'
import { cricketProgram, writeCricketConfig } from './cricket.ts'
import { useWorld } from './harness.ts'
import { until } from './pods.ts'
import { Runtime, runToEnd } from './runtime.ts'

describe('a second daemon', () => {
  const world = useWorld({ pulled: false })
  const version = () => world.cri.runtime.version({}, { timeoutMs: 5000 })

  it('on the same directories refuses to start, and the first goes on', async () => {
    const { site } = world
    const sections = { listen: site.path('second.sock') }
    const second = { ...cricketProgram(site), logPath: site.path('second.log') }
    const configPath = await secondConfig('second.yaml', sections)
    const ending = await runToEnd({ ...second, command: [...second.command.slice(0, -1), configPath] })
    assert.ok('code' in ending && ending.code !== 0, JSON.stringify(ending))
    assert.notEqual(await readFile(second.logPath, 'utf8'), '')
    await version()
  })

  it('with directories of its own does not take the socket of a living one', async () => {
    const { site } = world
    const configPath = await secondConfig('third.yaml', { root: site.path('root3'), state: site.path('state3') })
    const third = { ...cricketProgram(site, configPath), logPath: site.path('third.log') }
    const ending = await runToEnd(third)
    assert.ok('code' in ending && ending.code !== 0, JSON.stringify(ending))
    assert.match(await readFile(third.logPath, 'utf8'), /cricket\.sock/)
    await version()
  })

  it('replaces the socket file that a dead one left', async () => {
    await world.runtime.kill()
    assert.ok((await stat(world.runtime.program.socket)).isSocket())
    await world.runtime.start()
    await version()
  })

  it('replaces no file that is not a socket, and no socket of another program', async () => {
    const { site } = world
    const ordinary = site.path('ordinary')
    await writeFile(ordinary, 'precious')
    const foreign = site.path('foreign.sock')
    const server = createServer().listen(foreign)
    await once(server, 'listening')
    for (const [name, listen] of Object.entries({ ordinary, foreign })) {
      const own = { root: site.path(`root-${name}`), state: site.path(`state-${name}`), listen }
      const configPath = await secondConfig(`${name}.yaml`, own)
      const logPath = site.path(`${name}.log`)
      const ending = await runToEnd({ ...cricketProgram(site, configPath), logPath })
      assert.ok('code' in ending && ending.code !== 0, `${name}: ${JSON.stringify(ending)}`)
    }
    assert.equal(await readFile(ordinary, 'utf8'), 'precious')
    assert.ok((await stat(foreign)).isSocket())
    server.close()
    await rm(ordinary)
  })

  it('is not needed to find a daemon again whose socket file was taken away (C10)', async () => {
    await rm(world.runtime.program.socket)
    // Who was connected is served all the time.
    await version()
    // A process of its own, as clients of one process share their connections.
    const { command, socket: path } = world.runtime.program
    await until('a new client is served', 10_000, async () => {
      const asked = spawnSync(command[0] ?? '', ['ops', '--listen', path], { encoding: 'utf8' })
      return asked.status === 0 ? true : undefined
    })
    assert.equal((await stat(world.runtime.program.socket)).mode & 0o777, 0o660)
    await version()
  })

  it('with a wrong configuration says file, line and key, and starts nothing', async () => {
    const { site } = world
    const path = site.path('wrong.yaml')
    await writeFile(path, `root: ${site.path('root4')}\nstate: ${site.path('state4')}\nlogLevel: loud\n`)
    const ending = await runToEnd({ ...cricketProgram(site, path), logPath: site.path('wrong.log') })
    assert.ok('code' in ending && ending.code !== 0, JSON.stringify(ending))
    const log = await readFile(site.path('wrong.log'), 'utf8')
    assert.match(log, /wrong\.yaml/)
    assert.match(log, /\b3\b/)
    assert.match(log, /logLevel/)
  })

  /** The first daemon's configuration with these keys replaced, as a file of its own. */
  async function secondConfig(name: string, replace: Record<string, string>): Promise<string> {
    const { site } = world
    await mkdir(site.path('configs'), { recursive: true })
    const path = site.path('configs', name)
    const own = { root: site.path('root'), state: site.path('state'), listen: world.runtime.program.socket }
    const network = { configDir: site.network.configDir, binDirs: site.network.binDirs }
    await writeFile(path, stringify({ ...own, network, ...replace }))
    return path
  }
})

describe('a daemon', () => {
  const world = useWorld({ pulled: false })

  it('does not start on a state directory that it cannot use', async () => {
    const { site } = world
    const file = site.path('a-file')
    await writeFile(file, '')
    const path = await writeCricketConfig(site, {
      sections: { state: join(file, 'state'), listen: site.path('x.sock') },
    })
    const broken = new Runtime({
      ...cricketProgram(site, path),
      logPath: site.path('broken.log'),
      socket: site.path('x.sock'),
    })
    await assert.rejects(broken.start(), /a-file/)
  })
})
