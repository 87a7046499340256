/**
 * What a test file says first: `const world = useWorld()` gives its suite a site, a registry with the busybox image
 * and a running daemon, and after the suite proves that nothing is left.
 */

import assert from 'node:assert/strict'
import { after, afterEach, before } from 'node:test'
import { makePauseImage, startContainerd } from './containerd.ts'
import type { CriClient } from './cri-client.ts'
import { type CricketConfig, startCricket } from './cricket.ts'
import { imageSpec } from './image-spec.ts'
import { describeLeftovers, findLeftovers, type Leftover } from './leftovers.ts'
import { busyboxImage, type OciImage, pushImage } from './oci-image.ts'
import { isPeer } from './peer.ts'
import { removeAllPods } from './pods.ts'
import { type Registry, startRegistry } from './registry.ts'
import type { Runtime } from './runtime.ts'
import { createSite, removeSite, type Site } from './site.ts'

export interface World {
  readonly site: Site
  readonly registry: Registry
  readonly runtime: Runtime
  readonly cri: CriClient
  /** Reference of the busybox image in the registry, by tag; its tag names an index. */
  readonly image: string
  readonly busybox: OciImage
  /** Fails when anything of the site is there besides the daemon and its registry. */
  assertNothingLeft(): Promise<void>
}

export interface WorldOptions {
  config?: CricketConfig
  /** Whether the busybox image is pulled before the first test. */
  pulled?: boolean
  /** Each test goes on where the last one ended: pods of a failed test stay. */
  oneStory?: boolean
  /** Whether the daemon writes into a root directory of its own, so that `writtenApart` tells what. */
  isApart?: boolean
}

/** Registers the hooks of the surrounding suite; the world is there when its first test begins. */
export function useWorld({ config = {}, pulled = true, oneStory = false, isApart = false }: WorldOptions = {}): World {
  let parts: Parts | undefined
  const there = (): Parts => {
    if (!parts) throw new Error('the world is there only while tests run')
    return parts
  }
  before(async () => {
    parts = await makeParts(config, isApart)
    if (pulled) await parts.runtime.cri.images.pullImage({ image: imageSpec(parts.image) })
  })
  afterEach(async (test) => {
    if (!('passed' in test) || test.passed) return
    test.diagnostic(`the runtime's log ends:\n${await there().runtime.logTail()}`)
    // What a failed test leaves must not fail the next one.
    if (!oneStory && there().runtime.isRunning) await removeAllPods(there().runtime.cri).catch(() => {})
  })
  after(() => parts && endWorld(parts))
  return {
    get site() {
      return there().site
    },
    get registry() {
      return there().registry
    },
    get runtime() {
      return there().runtime
    },
    get cri() {
      return there().runtime.cri
    },
    get image() {
      return there().image
    },
    get busybox() {
      return there().busybox
    },
    assertNothingLeft: () => assertNothingLeft(there()),
  }
}

interface Parts {
  site: Site
  registry: Registry
  /** The registry is a process under the site's directory, too. */
  registryPid: number
  runtime: Runtime
  image: string
  busybox: OciImage
}

async function makeParts(config: CricketConfig, isApart: boolean): Promise<Parts> {
  const site = await createSite()
  const registry = await startRegistry(site.dir)
  const busybox = await busyboxImage()
  await pushImage(registry.url, 'busybox', '1', busybox)
  const runtime = await startRuntime(site, registry, config, isApart)
  return { site, registry, registryPid: registry.pid, runtime, busybox, image: `${registry.host}/busybox:1` }
}

async function startRuntime(site: Site, registry: Registry, config: CricketConfig, isApart: boolean): Promise<Runtime> {
  if (!isPeer) return startCricket(site, { insecureRegistries: [registry.host], ...config }, isApart)
  await pushImage(registry.url, 'pause', '1', await makePauseImage(site))
  return startContainerd(site, `${registry.host}/pause:1`)
}

/** Removes all pods through the daemon, ends the daemon, and fails when anything is left. */
async function endWorld({ site, registry, runtime }: Parts): Promise<void> {
  let failure: unknown
  try {
    if (!runtime.isRunning) await runtime.start()
    await removeAllPods(runtime.cri)
    assert.deepEqual(await runtime.stop(), { code: 0 }, 'the daemon ends with exit code 0 on SIGTERM')
  } catch (error) {
    failure = error
    if (runtime.isRunning) await runtime.kill()
  }
  await registry.stop()
  const leftovers = await removeSite(site)
  if (failure) throw failure
  failOn(leftovers)
}

async function assertNothingLeft({ site, registryPid, runtime }: Parts): Promise<void> {
  const leftovers = await findLeftovers(site, { except: [registryPid, runtime.pid] })
  failOn(leftovers)
}

function failOn(leftovers: Leftover[]): void {
  if (leftovers.length > 0) assert.fail(`left behind:\n${describeLeftovers(leftovers)}`)
}
