/** The directory of network configurations: taken away, put back, and written to by the daemon itself. */

import assert from 'node:assert/strict'
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { mkdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import { NamespaceMode } from '#proto/generated/api.ts'
import { failsWith } from './cri-client.ts'
import { networkReady, untilNetworkReady, useNetwork } from './obedient-network.ts'
import { podConfig, removePod, until } from './pods.ts'

describe('the directory of network configurations', () => {
  const network = useNetwork()
  const { world } = network

  it('may be taken away and replaced while the daemon runs', async () => {
    const { configDir } = world.site.network
    await rename(configDir, `${configDir}.old`)
    assert.match(await untilNetworkReady(world, false), /no usable CNI network configuration/)
    const config = await podConfig(world.site, 'early')
    await assert.rejects(world.cri.runtime.runPodSandbox({ config }), failsWith(status.FAILED_PRECONDITION))
    const onHost = await podConfig(world.site, 'on-host', {
      linux: { securityContext: { namespaceOptions: { network: NamespaceMode.NODE, pid: NamespaceMode.CONTAINER } } },
    })
    const host = await world.cri.runtime.runPodSandbox({ config: onHost })
    await removePod(world.cri, host.podSandboxId)

    // One who comes before the network is there waits for it, and nobody else does.
    const waiting = world.cri.runtime.runPodSandbox({ config })
    await until('somebody waits', 5000, async () => {
      const { info } = await world.cri.runtime.status({ verbose: true })
      return info.operations?.includes('network ready') || undefined
    })
    assert.equal((await networkReady(world)).status, false)
    await mkdir(configDir)
    network.write('20-new.conflist')
    const { podSandboxId } = await waiting
    await untilNetworkReady(world, true)
    rmSync(join(configDir, '20-new.conflist'))
    await untilNetworkReady(world, false)
    // It is detached with what it was attached with.
    await removePod(world.cri, podSandboxId)
    await world.assertNothingLeft()
    network.write('20-new.conflist')
    await untilNetworkReady(world, true)
  })

  it('gets a configuration from the template once the kubelet tells the ranges of the node', async () => {
    const { configDir } = world.site.network
    writeFileSync(
      world.site.path('template'),
      JSON.stringify({
        cniVersion: '1.0.0',
        name: 'made',
        plugins: [{ type: 'obedient', ranges: '$POD_CIDR_RANGES' }],
      }),
    )
    const update = (podCidr: string) =>
      world.cri.runtime.updateRuntimeConfig({ runtimeConfig: { networkConfig: { podCidr } } })
    await assert.rejects(update('10.0.0.0/64'), failsWith(status.INVALID_ARGUMENT))
    await update('')
    assert.deepEqual(readdirSync(configDir), ['20-new.conflist'])
    await update('10.9.0.0/24,fd00:9::/64')
    const { plugins } = JSON.parse(readFileSync(join(configDir, '99-cricket.conflist'), 'utf8'))
    assert.deepEqual(plugins[0].ranges, [[{ subnet: '10.9.0.0/24' }], [{ subnet: 'fd00:9::/64' }]])
  })
})
