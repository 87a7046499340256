/**
 * What every attack on the node has in common: it is tried against a running daemon, and after each one a tree of the host
 * is as it was, the daemon answers, and nothing is left. The titles of the tests name the row of the threat list in
 * docs/security.md.
 */

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { afterEach, before } from 'node:test'
import { status } from '@grpc/grpc-js'
import { type ContainerConfig, type DeepPartial, NamespaceMode, type PodSandboxConfig } from '#proto/generated/api.ts'
import { type Canary, makeCanary } from '../canary.ts'
import { CriError } from '../cri-client.ts'
import type { CricketConfig } from '../cricket.ts'
import { useWorld, type World } from '../harness.ts'
import { imageSpec } from '../image-spec.ts'
import { type ImageConfig, type LayerEntry, makeImage, makeLayer, pushImage } from '../oci-image.ts'
import { containerConfig, createContainer, podConfig, readLog, removePod, untilExited } from '../pods.ts'

export const { INVALID_ARGUMENT, FAILED_PRECONDITION, NOT_FOUND } = status

export interface Outcome {
  readonly error?: CriError
  /** What the container said. */
  readonly said: string
  /** The config.json that the runtime was given. */
  readonly spec: OciSpec
}

export interface OciSpec {
  readonly annotations: Record<string, string>
  readonly process: {
    readonly user: { uid: number; gid: number; additionalGids: number[] }
    readonly env: string[]
    readonly cwd: string
  }
  readonly linux: { readonly seccomp?: object; readonly resources: { readonly unified?: object } }
}

const NOTHING: OciSpec = {
  annotations: {},
  process: { user: { uid: -1, gid: -1, additionalGids: [] }, env: [], cwd: '' },
  linux: { resources: {} },
}

export interface Attempt {
  readonly config?: DeepPartial<ContainerConfig>
  readonly image?: string
  readonly script?: string
  readonly sandbox?: DeepPartial<PodSandboxConfig>
  readonly while?: (containerId: string) => Promise<void>
}

export interface Attacks {
  readonly world: World
  readonly canary: Canary
  /** Makes and runs a container, and removes all of it. */
  attempt(attack: Attempt): Promise<Outcome>
  /** The same with an ordinary container in this pod. */
  pod(rest: DeepPartial<PodSandboxConfig>): Promise<Outcome>
  /** The busybox image with one more layer, pulled. @returns its reference */
  image(entries: LayerEntry[], config?: ImageConfig): Promise<string>
  specOf(containerId: string): Promise<OciSpec>
}

/** A security context that only differs from a plain one in this. */
export const security = (rest: object): DeepPartial<ContainerConfig> => ({
  linux: { securityContext: { namespaceOptions: { pid: NamespaceMode.CONTAINER }, ...rest } },
})

/** Fails unless it was refused with this code and a text that says why. */
export function refused({ error }: Outcome, code: status, text: RegExp, what = ''): void {
  assert.ok(error, `was not refused: ${what}`)
  assert.equal(status[error.code], status[code], `${what}: ${error.message}`)
  assert.match(error.details, text, what)
  // Whatever an attack leads to, its content is not repeated to the caller.
  assert.ok(!error.details.includes('canary-'), error.details)
}

/** Registers the hooks of the surrounding suite. */
export function useAttacks(config: CricketConfig = {}): Attacks {
  const world = useWorld({ config })
  let canary: Canary | undefined
  let count = 0

  before(() => {
    canary = makeCanary(world.site.path('canary'))
  })
  afterEach(async () => {
    canary?.assertUnharmed()
    await world.cri.runtime.version({}, { timeoutMs: 1000 })
    await world.cri.runtime.status({}, { timeoutMs: 2000 })
    await world.assertNothingLeft()
  })

  const image = async (entries: LayerEntry[], rest: ImageConfig = {}): Promise<string> => {
    const name = `hostile${++count}`
    const layers = [...world.busybox.layers, ...(entries.length > 0 ? [await makeLayer(entries)] : [])]
    const base = { Cmd: ['/bin/sh'], Env: ['PATH=/bin'] }
    await pushImage(world.registry.url, name, '1', makeImage(layers, { ...base, ...rest }))
    const reference = `${world.registry.host}/${name}:1`
    await world.cri.images.pullImage({ image: imageSpec(reference) })
    return reference
  }

  const specOf = async (containerId: string): Promise<OciSpec> => {
    const { info } = await world.cri.runtime.containerStatus({ containerId, verbose: true })
    const { runtimeSpec }: { runtimeSpec: OciSpec } = JSON.parse(info.info ?? '{}')
    return runtimeSpec
  }

  const attempt = async (attack: Attempt): Promise<Outcome> => {
    const sandbox = await podConfig(world.site, `hostile-${++count}`, attack.sandbox)
    let podSandboxId = ''
    try {
      podSandboxId = (await world.cri.runtime.runPodSandbox({ config: sandbox })).podSandboxId
      const command = ['sh', '-c', attack.script ?? 'true']
      const config = containerConfig('main', attack.image ?? world.image, command, attack.config)
      const containerId = await createContainer(world.cri, podSandboxId, sandbox, config)
      const spec = await specOf(containerId)
      await world.cri.runtime.startContainer({ containerId })
      await attack.while?.(containerId)
      await untilExited(world.cri, containerId)
      const said = (await readLog(join(sandbox.logDirectory, 'main/0.log'))).map(({ content }) => content).join('\n')
      return { said, spec }
    } catch (error) {
      if (!(error instanceof CriError)) throw error
      return { error, said: '', spec: NOTHING }
    } finally {
      if (podSandboxId !== '') await removePod(world.cri, podSandboxId)
    }
  }

  return {
    world,
    get canary() {
      if (!canary) throw new Error('there is a canary only while tests run')
      return canary
    },
    attempt,
    pod: (sandbox) => attempt({ sandbox }),
    image,
    specOf,
  }
}
