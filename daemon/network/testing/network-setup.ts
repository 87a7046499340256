/** A pod network over fake plugins, and pods with real pinned network namespaces to attach to it. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { linux } from '#linux/linux.ts'
import { silentLog } from '#proto/log.ts'
import { openPodNetwork, type PodAttachment, type PodNetworkOptions } from '../pod-network.ts'
import { chain, type FakeNetwork, type FakeScenario, fakeNetwork } from './fake-network.ts'

export interface Setup {
  fake: FakeNetwork
  open(options?: Partial<PodNetworkOptions>): ReturnType<typeof openPodNetwork>
  pod(fields?: Partial<PodAttachment>): PodAttachment
}

/** A network of fake plugins and pinned network namespaces; all of it goes when the test ends. */
export const setup = (t: TestContext, plugins: Record<string, FakeScenario> = {}): Setup => {
  const fake = fakeNetwork(t)
  for (const [name, scenario] of Object.entries(plugins)) fake.plugin(name, scenario)
  if (Object.keys(plugins).length > 0) fake.config('10-fake.conflist', chain(...Object.keys(plugins)))
  let count = 0
  return {
    fake,
    open(options = {}) {
      const { configDir, binDir, cacheDir } = fake
      const network = openPodNetwork({ configDir, binDirs: [binDir], cacheDir, log: silentLog, linux, ...options })
      fake.defer(() => network.close())
      return network
    },
    pod(fields = {}) {
      // Unique on the machine: plugins that a dead daemon left are told by it, whoever's tests they belong to.
      const sandboxId = `sandbox${process.pid}n${++count}`
      const netnsPath = join(fake.dir, sandboxId)
      linux.createNamespaces({ kinds: ['net'], pins: { net: netnsPath } })
      fake.defer(() => linux.unpinNamespace(netnsPath))
      const names = { name: 'web', namespace: 'default', uid: 'u-1' }
      return { sandboxId, ...names, netnsPath, portMappings: [], annotations: {}, ...fields }
    },
  }
}

/** The error that this ends with. */
export const failure = async (promise: Promise<unknown>): Promise<Error & { kind?: string }> =>
  promise.then(
    () => assert.fail('did not fail'),
    (error) => error,
  )

/** Whether the process has ended, reaped or not. */
export const isGone = (pid: number): boolean => {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')
  } catch {
    return true
  }
}
