/** A pod network that does what a test tells it: dual stack, no plugin for host ports, and one that fails and waits on demand. */

import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before } from 'node:test'
import type { DeepPartial, PodSandboxConfig } from '#proto/generated/api.ts'
import { writeCricketConfig } from './cricket.ts'
import { useWorld, type World } from './harness.ts'
import { containerConfig, podConfig, startPod, until } from './pods.ts'

const HTTPD = ['sh', '-c', 'mkdir /www; echo served > /www/index.html; exec httpd -f -p 8080 -h /www']

/**
 * A chained plugin that obeys files beside it: `fail-VERB` makes that verb fail, `hold-VERB` makes it wait for the file to
 * go when the pod's name is the file's content. `calls` lists what it was asked.
 */
const OBEDIENT = `
import { appendFileSync, existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
const { CNI_COMMAND: verb, CNI_ARGS: args = '', CNI_CONTAINERID: id } = process.env
const file = (name) => join(import.meta.dirname, name)
const { prevResult, cniVersion } = JSON.parse(readFileSync(0, 'utf8'))
appendFileSync(file('calls'), verb + ' ' + id + '\\n')
const isHeld = () => {
  try {
    return args.includes('K8S_POD_NAME=' + readFileSync(file('hold-' + verb), 'utf8') + ';')
  } catch {
    return false
  }
}
while (isHeld()) await new Promise((resolve) => setTimeout(resolve, 20))
if (existsSync(file('fail-' + verb))) {
  console.log(JSON.stringify({ cniVersion, code: 50, msg: 'told to fail' }))
  process.exitCode = 1
} else if (verb === 'ADD') console.log(JSON.stringify(prevResult))
`

/** How long new pods wait for a network; long enough for a slow machine to put one there. */
const WAIT_SECONDS = 5

export interface Network {
  readonly world: World
  /** A file beside the plugin. */
  file(name: string): string
  /** What the plugin was asked, `ADD <id>` and so on. */
  calls(): string[]
  /** The network's configuration, with these fields instead. */
  write(name: string, fields?: object): void
  addresses(): string[]
}

/** A world whose network is dual stack and has no plugin for host ports, but one that obeys. */
export function useNetwork(): Network {
  const world = useWorld()
  const file = (name: string) => world.site.path('plugins', name)
  const network: Network = {
    world,
    file,
    calls: () => (existsSync(file('calls')) ? readFileSync(file('calls'), 'utf8').split('\n').filter(Boolean) : []),
    write(name, fields = {}) {
      writeFileSync(join(world.site.network.configDir, name), JSON.stringify({ ...networkConfig(world), ...fields }))
    },
    addresses() {
      const dir = join(world.site.network.ipamDir, world.site.network.name)
      return existsSync(dir) ? readdirSync(dir).filter((name) => /^[0-9a-f.:]+$/.test(name)) : []
    },
  }
  before(async () => {
    const { site, registry, runtime } = world
    await mkdir(site.path('plugins'))
    await writeFile(file('obedient.mjs'), OBEDIENT)
    await writeFile(file('obedient'), `#!/bin/sh\nexec '${process.execPath}' '${file('obedient.mjs')}'\n`)
    await chmod(file('obedient'), 0o755)
    network.write('10-pods.conflist')
    await runtime.stop()
    const { configDir, binDirs } = site.network
    await writeCricketConfig(site, {
      insecureRegistries: [registry.host],
      sections: {
        network: {
          configDir,
          binDirs: [site.path('plugins'), ...binDirs],
          confTemplate: site.path('template'),
          waitSeconds: WAIT_SECONDS,
        },
      },
    })
    await runtime.start()
  })
  return network
}

export const gatewayV6 = ({ site }: World): string => `fd00:${site.id.slice(0, 4)}:${site.id.slice(2)}::1`

function networkConfig(world: World) {
  const { name, bridge, ipamDir, prefix } = world.site.network
  const ranges = [[{ subnet: `${prefix}.0/24` }], [{ subnet: gatewayV6(world).replace(/1$/, '/64') }]]
  const routes = [{ dst: '0.0.0.0/0' }, { dst: '::/0' }]
  const ipam = { type: 'host-local', dataDir: ipamDir, ranges, routes }
  const main = { type: 'bridge', bridge, isGateway: true, hairpinMode: true, ipam }
  return { cniVersion: '1.0.0', name, plugins: [main, { type: 'obedient' }] }
}

export const startServer = async (world: World, name: string, overrides: DeepPartial<PodSandboxConfig> = {}) =>
  startPod(world.cri, await podConfig(world.site, name, overrides), containerConfig('main', world.image, HTTPD))

/** What a server says, once it says anything. */
export const answerOf = (url: string): Promise<string> =>
  until(`${url} answers`, 5000, async () => {
    const response = await fetch(url, { signal: AbortSignal.timeout(1000) }).catch(() => undefined)
    return response?.text()
  })

export const refuses = (url: string) => assert.rejects(fetch(url, { signal: AbortSignal.timeout(1000) }), url)

export async function networkReady({ cri }: World): Promise<{ status: boolean; message: string }> {
  const answer = await cri.runtime.status({})
  const found = answer.status?.conditions.find(({ type }) => type === 'NetworkReady')
  return { status: found?.status ?? false, message: found?.message ?? '' }
}

export const untilNetworkReady = (world: World, want: boolean): Promise<string> =>
  until(`NetworkReady is ${want}`, 10_000, async () => {
    const { status: is, message } = await networkReady(world)
    return is === want ? message : undefined
  })
