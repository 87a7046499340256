/** A world whose runtime, CNI plugin and monitor are stand-ins, and what every fault test asks of the daemon. */

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { after, afterEach } from 'node:test'
import { type ContainerConfig, type DeepPartial, NamespaceMode, type PodSandboxConfig } from '#proto/generated/api.ts'
import type { CriClient } from '../cri-client.ts'
import { filesLeft } from '../files-left.ts'
import { useWorld, type World } from '../harness.ts'
import { containerConfig, podConfig, removeAllPods, until } from '../pods.ts'
import { makeStandIns, type StandIns } from './stand-ins.ts'

export const IDLE = ['sleep', '1000']

export interface FaultyWorld {
  readonly world: World
  readonly standIns: StandIns
  /** Heals the helpers, removes all pods, and fails when anything is left of them. */
  assertAllGoes(): Promise<void>
}

export function useFaultyWorld(): FaultyWorld {
  const standIns = makeStandIns()
  const binDirs = [standIns.binDir, '/opt/cni/bin', '/usr/lib/cni'].filter((path) => existsSync(path))
  const world = useWorld({
    config: {
      binDirs,
      sections: {
        runtimes: {
          handlers: {
            runc: { path: standIns.runtime.path },
            hasty: { path: standIns.runtime.path, createTimeoutSeconds: 2 },
          },
        },
        // A spare would be one of before the fault.
        monitor: { path: standIns.monitor.path, spares: 0 },
      },
    },
  })
  afterEach(async () => {
    await standIns.heal()
    // A failed test must not fail the next one.
    if (!world.runtime.isRunning) await world.runtime.start()
  })
  after(() => standIns.remove())
  return {
    world,
    standIns,
    async assertAllGoes() {
      await standIns.heal()
      await removeAllPods(world.cri)
      await assertNothingOf(world)
    },
  }
}

/** No object, no file and nothing on the host is left. */
export async function assertNothingOf(world: World): Promise<void> {
  assert.deepEqual((await world.cri.runtime.listPodSandbox({})).items, [])
  assert.deepEqual((await world.cri.runtime.listContainers({})).containers, [])
  let left: string[] = []
  await until('no file is left', 5000, async () => {
    left = await filesLeft(world.site)
    return left.length === 0 ? true : undefined
  }).catch(() => assert.deepEqual(left, []))
  await world.assertNothingLeft()
}

const namespaces = (network: NamespaceMode, pid: NamespaceMode) => ({
  securityContext: { namespaceOptions: { network, pid, ipc: NamespaceMode.POD } },
})

/** A pod on the host's network: no CNI plugin has to do with it. */
export const hostPod = (world: World, name: string, overrides: DeepPartial<PodSandboxConfig> = {}) =>
  podConfig(world.site, name, {
    linux: { cgroupParent: world.site.cgroupParent, ...namespaces(NamespaceMode.NODE, NamespaceMode.CONTAINER) },
    ...overrides,
  })

/** The same with one PID namespace for the whole pod, so with an init process. */
export const sharedPod = (world: World, name: string) =>
  podConfig(world.site, name, {
    linux: { cgroupParent: world.site.cgroupParent, ...namespaces(NamespaceMode.NODE, NamespaceMode.POD) },
  })

export const hostContainer = (
  world: World,
  name = 'main',
  command = IDLE,
  pid: NamespaceMode = NamespaceMode.CONTAINER,
): ContainerConfig => containerConfig(name, world.image, command, { linux: namespaces(NamespaceMode.NODE, pid) })

/** Every call that only reads is answered at once (design D9), whatever else is going on. */
export async function assertQuick(cri: CriClient): Promise<void> {
  for (let round = 0; round < 3; round++) {
    const began = performance.now()
    await cri.runtime.version({}, { timeoutMs: 1000 })
    await cri.runtime.status({ verbose: true }, { timeoutMs: 2000 })
    await cri.runtime.listPodSandbox({}, { timeoutMs: 1000 })
    const { containers } = await cri.runtime.listContainers({}, { timeoutMs: 1000 })
    for (const { id } of containers) await cri.runtime.containerStatus({ containerId: id }, { timeoutMs: 1000 })
    assert.ok(performance.now() - began < 2000, 'the calls that only read are answered')
  }
}
