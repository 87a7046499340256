/** `cricket ops` and the verbose Status: an operator sees what a daemon is busy with, and since when. */

import assert from 'node:assert/strict'
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { execa } from 'execa'
import { CRICKET, cricketSocket } from './cricket.ts'
import { useWorld } from './harness.ts'
import { podConfig, until } from './pods.ts'

describe('an operation that takes long', () => {
  const world = useWorld({ pulled: false })

  it('is listed with its stage while it runs, and not after', async () => {
    const plugins = world.site.path('plugins')
    await mkdir(plugins)
    const slow = join(plugins, 'slow')
    await writeFile(slow, '#!/bin/sh\n[ "$CNI_COMMAND" = ADD ] && sleep 2\nexit 1\n')
    await chmod(slow, 0o755)
    await writeFile(
      world.site.path('cni/00-slow.conflist'),
      JSON.stringify({ cniVersion: '1.0.0', name: 'slow', plugins: [{ type: 'slow' }] }),
    )
    await world.runtime.stop()
    const network = { configDir: world.site.network.configDir, binDirs: [plugins] }
    await writeFile(
      world.site.path('config.yaml'),
      JSON.stringify({
        root: world.site.path('root'),
        state: world.site.path('state'),
        listen: cricketSocket(world.site),
        network,
      }),
    )
    await world.runtime.start()
    const run = world.cri.runtime.runPodSandbox({ config: await podConfig(world.site, 'slow') })
    run.catch(() => {})
    const ops = () => execa(CRICKET, ['ops', '--listen', cricketSocket(world.site)])
    const line = await until('the operation is listed', 5000, async () => {
      const { stdout } = await ops()
      return stdout.split('\n').find((text) => text.includes('network'))
    })
    assert.match(line, /^RunPodSandbox +network add +\d+\.\ds +\d+\.\ds +\S*slow/)
    await assert.rejects(run)
    assert.equal((await ops()).stdout.trim().split('\n').length, 1)
  })
})
