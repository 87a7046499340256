/** Network configurations that name programs elsewhere (A11), and host ports that catch what is not theirs (A18). */

import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { Protocol } from '#proto/generated/api.ts'
import { containerConfig, podConfig, removePod, startPod, until } from '../pods.ts'
import { cniConfig, findBusybox } from '../site.ts'
import { FAILED_PRECONDITION, refused, useAttacks } from './attack.ts'

const ip = (...args: string[]): string => execFileSync('ip', args, { encoding: 'utf8' })

describe('hostile networks:', () => {
  const attacks = useAttacks()
  const { attempt, world } = attacks

  it('A11: a plugin type that is a path runs nothing', async () => {
    const { configDir } = world.site.network
    const marker = world.site.path('plugin-ran')
    const evil = world.site.path('evil-plugin')
    writeFileSync(evil, `#!/bin/sh\necho x > ${marker}\nexit 1\n`, { mode: 0o755 })
    const good = join(configDir, '10-pods.conflist')
    rmSync(good)
    const ready = async () => {
      const { status } = await world.cri.runtime.status({})
      return status?.conditions.find(({ type }) => type === 'NetworkReady')
    }
    for (const type of [`../../../../../../..${evil}`, evil, '', '../bridge', 'a\0b', '.', '..']) {
      const config = { cniVersion: '1.0.0', name: 'evil', plugins: [{ type }] }
      writeFileSync(join(configDir, '10-evil.conflist'), JSON.stringify(config))
      await until(`the network is not ready with ${JSON.stringify(type)}`, 10_000, async () =>
        (await ready())?.status === false ? true : undefined,
      )
      assert.equal(existsSync(marker), false, type)
    }
    refused(await attempt({}), FAILED_PRECONDITION, /network/)
    assert.equal(existsSync(marker), false)
    rmSync(join(configDir, '10-evil.conflist'))
    writeFileSync(good, cniConfig(world.site.network))
    await until('the network is ready again', 10_000, async () => ((await ready())?.status ? true : undefined))
  })

  interface Outside extends AsyncDisposable {
    readonly address: string
  }

  /** Another machine beside this one, which serves the word "outside". */
  const startOutside = async (port: number): Promise<Outside> => {
    const { id } = world.site
    const [name, here, there] = [`ckout-${id}`, `cko${id}`, `ckp${id}`]
    const prefix = `10.198.${Number.parseInt(id.slice(0, 2), 16)}`
    const first = (Number.parseInt(id.slice(2, 4), 16) & 0x3f) << 2
    ip('netns', 'add', name)
    ip('link', 'add', here, 'type', 'veth', 'peer', 'name', there, 'netns', name)
    ip('address', 'add', `${prefix}.${first + 1}/30`, 'dev', here)
    ip('link', 'set', here, 'up')
    ip('-n', name, 'address', 'add', `${prefix}.${first + 2}/30`, 'dev', there)
    ip('-n', name, 'link', 'set', there, 'up')
    ip('-n', name, 'route', 'add', 'default', 'via', `${prefix}.${first + 1}`)
    const dir = world.site.path('outside')
    mkdirSync(dir)
    writeFileSync(join(dir, 'index.html'), 'outside')
    const command = ['netns', 'exec', name, findBusybox(), 'httpd', '-f', '-p', String(port), '-h', dir]
    const server = spawn('ip', command, { stdio: 'ignore' })
    await once(server, 'spawn')
    const stop = async () => {
      server.kill('SIGKILL')
      await once(server, 'exit')
      ip('netns', 'delete', name)
    }
    return { address: `${prefix}.${first + 2}`, [Symbol.asyncDispose]: stop }
  }

  it('A18: a host port takes what is for this node, not what passes through it', async (t) => {
    if (!existsSync('/usr/sbin/nft')) return t.skip('host lacks nft')
    // A network without a plugin for host ports, so that they are ours to make.
    const { plugins, ...network } = JSON.parse(cniConfig(world.site.network))
    const file = join(world.site.network.configDir, '10-pods.conflist')
    writeFileSync(file, JSON.stringify({ ...network, plugins: plugins.slice(0, 1) }))
    await until('the network has no such plugin', 10_000, async () =>
      (await world.runtime.logTail()).split('Use pod network').length > 2 ? true : undefined,
    )
    const port = 20_000 + (Number.parseInt(world.site.id, 16) % 10_000)
    await using machine = await startOutside(port)
    const outside = machine.address
    const portMappings = [{ protocol: Protocol.TCP, containerPort: 8080, hostPort: port }]
    const serve = ['sh', '-c', 'mkdir /w; echo captured > /w/index.html; httpd -f -p 8080 -h /w']
    const server = await startPod(
      world.cri,
      await podConfig(world.site, 'server', { portMappings }),
      containerConfig('main', world.image, serve),
    )
    const sleeper = containerConfig('main', world.image, ['sleep', '1000'])
    const client = await startPod(world.cri, await podConfig(world.site, 'client'), sleeper)
    const ask = async (host: string): Promise<string> => {
      const cmd = ['timeout', '5', 'wget', '-q', '-O', '-', `http://${host}:${port}/`]
      const { stdout } = await world.cri.runtime.execSync({ containerId: client.containerId, cmd, timeout: 20n })
      return stdout.toString().trim()
    }
    assert.equal(await until('the outside answers', 10_000, async () => (await ask(outside)) || undefined), 'outside')
    assert.equal(await ask(`${world.site.network.prefix}.1`), 'captured')
    await removePod(world.cri, server.sandboxId)
    assert.equal(await ask(outside), 'outside')
    assert.equal(await ask(`${world.site.network.prefix}.1`), '', 'the rule goes with its pod')
    await removePod(world.cri, client.sandboxId)
  })
})
