/**
 * Requests as nobody would write them: a full, valid RunPodSandbox or CreateContainer with some of its values replaced.
 * The daemon must answer each with success or a code that says whose fault it is, soon, and harm nothing. Slow, so not
 * among the ordinary tests: `node --test e2e/sweep.long.ts`; CRICKET_SWEEP is the number of requests (20000).
 */

import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import * as fc from 'fast-check'
import {
  type ContainerConfig,
  type DeepPartial,
  PodSandboxConfig,
  SecurityProfile_ProfileType,
} from '#proto/generated/api.ts'
import { type Canary, makeCanary } from './canary.ts'
import { CriError } from './cri-client.ts'
import { useWorld } from './harness.ts'
import { imageSpec } from './image-spec.ts'
import { containerConfig, podConfig, removePod } from './pods.ts'

const REQUESTS = Number(process.env.CRICKET_SWEEP ?? 20_000)
const CODES = [
  status.INVALID_ARGUMENT,
  status.FAILED_PRECONDITION,
  status.NOT_FOUND,
  status.ALREADY_EXISTS,
  status.RESOURCE_EXHAUSTED,
  status.UNIMPLEMENTED,
]
const SENTINEL = /^(RROUnsupported|ImageVolumeMountFailed): /

/** Paths lead to nothing that could be made: a source of a mount that is missing is made, as Kubernetes expects. */
const TEXTS = [
  '',
  '/',
  '.',
  '..',
  '../..',
  '/../../etc',
  '/proc',
  '/proc/self/fd/7',
  '//',
  '\0',
  'a\nb',
  'x'.repeat(5000),
  '-1',
  '0',
  '4294967296',
  '__proto__',
  'unconfined',
  'localhost/',
  'runtime/default',
  '%s%n',
  '$(id)',
  'ALL',
  'CAP_X',
  'a,b:c\\d',
  '\u2028',
  '\ud800',
  'v.com/c=d',
  '0-4294967295',
  '/dev/null',
  'rwm',
]
const BIGS = [0n, 1n, -1n, 2n ** 31n, 2n ** 32n, 2n ** 63n - 1n, -(2n ** 63n), 1000n]
const NUMBERS = [0, 1, 2, 3, 4, -1, 99, 65_536, 2 ** 31 - 1, -(2 ** 31)]

type Place = { holder: Record<string, unknown>; key: string }

/** Every value in a message, however deep. */
const placesOf = (value: unknown): Place[] => {
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return []
  const holder = value as Record<string, unknown>
  return Object.keys(holder).flatMap((key) => [{ holder, key }, ...placesOf(holder[key])])
}

interface Change {
  readonly place: number
  readonly pick: number
}

const mutate = ({ holder, key }: Place, pick: number): void => {
  const value = holder[key]
  if (typeof value === 'string') holder[key] = TEXTS[pick % TEXTS.length]
  else if (typeof value === 'bigint') holder[key] = BIGS[pick % BIGS.length]
  else if (typeof value === 'number') holder[key] = NUMBERS[pick % NUMBERS.length]
  else if (typeof value === 'boolean') holder[key] = !value
  else if (value instanceof Uint8Array) holder[key] = Buffer.from(TEXTS[pick % TEXTS.length] ?? '')
  else if (Array.isArray(value)) holder[key] = pick % 3 === 0 ? [] : Array.from({ length: pick % 50 }, () => value[0])
  else if (pick % 4 === 0) holder[key] = undefined
}

describe('the daemon', () => {
  const world = useWorld()
  let canary: Canary
  let sandboxId = ''
  let sandbox = PodSandboxConfig.create()

  before(async () => {
    canary = makeCanary(world.site.path('canary'))
    sandbox = await podConfig(world.site, 'sweep')
    sandboxId = (await world.cri.runtime.runPodSandbox({ config: sandbox })).podSandboxId
  })

  /** Something in every field, so that there is something to replace. */
  const fullContainer = (): ContainerConfig => {
    const id = { hostId: 100_000, containerId: 0, length: 65_536 }
    const profile = { profileType: SecurityProfile_ProfileType.Unconfined, localhostRef: '' }
    const full: DeepPartial<ContainerConfig> = {
      workingDir: '/tmp',
      args: ['true'],
      envs: [{ key: 'A', value: Buffer.from('b') }],
      mounts: [
        { containerPath: '/m', hostPath: world.site.logDir, readonly: true },
        { containerPath: '/i', image: imageSpec(world.image), imageSubPath: 'etc', readonly: true },
      ],
      devices: [{ hostPath: '/dev/null', containerPath: '/dev/mine', permissions: 'r' }],
      CDIDevices: [],
      linux: {
        resources: {
          cpuPeriod: 100_000n,
          cpuShares: 102n,
          memoryLimitInBytes: 64n << 20n,
          oomScoreAdj: 999n,
          cpusetCpus: '0',
          hugepageLimits: [{ pageSize: '2MB', limit: 0n }],
          unified: {},
        },
        securityContext: {
          capabilities: { addCapabilities: ['CHOWN'], dropCapabilities: ['KILL'], addAmbientCapabilities: [] },
          namespaceOptions: {
            network: 0,
            pid: 1,
            ipc: 0,
            targetId: '',
            usernsOptions: { mode: 2, uids: [id], gids: [id] },
          },
          runAsUser: { value: 1000n },
          runAsGroup: { value: 1000n },
          supplementalGroups: [5n],
          seccomp: profile,
          apparmor: profile,
          selinuxOptions: { user: '', role: '', type: '', level: '' },
          maskedPaths: ['/proc/kcore'],
          readonlyPaths: ['/proc/bus'],
          noNewPrivs: true,
        },
      },
    }
    return containerConfig('main', world.image, ['true'], full)
  }

  const fullSandbox = async (): Promise<PodSandboxConfig> => {
    const one = await podConfig(world.site, 'sweep-pod')
    const linux = { ...one.linux, sysctls: { 'net.ipv4.ip_forward': '0' } }
    return PodSandboxConfig.fromPartial({ ...one, portMappings: [{ containerPort: 80, hostPort: 0 }], linux })
  }

  const seen = new Map<string, number>()

  /** Undefined when it was refused as it should be. */
  const judged = async (call: Promise<string>): Promise<string | undefined> => {
    const began = performance.now()
    try {
      const made = await call
      seen.set('OK', (seen.get('OK') ?? 0) + 1)
      return made
    } catch (error) {
      assert.ok(error instanceof CriError, `${error}`)
      // What no client can put into a message: not sent.
      if (error.details.startsWith('Request message serialization failure')) return undefined
      const isKnown = CODES.includes(error.code) || (error.code === status.UNKNOWN && SENTINEL.test(error.details))
      assert.ok(isKnown, error.message.slice(0, 1000))
      assert.ok(
        performance.now() - began < 1000 || error.details.includes('runc'),
        `took ${performance.now() - began} ms: ${error.message.slice(0, 300)}`,
      )
      const name = status[error.code]
      seen.set(name, (seen.get(name) ?? 0) + 1)
      return undefined
    }
  }

  const changes = fc.array(fc.record({ place: fc.nat(), pick: fc.nat() }), { minLength: 1, maxLength: 6 })

  const changed = <T extends object>(message: T, list: readonly Change[]): T => {
    for (const { place, pick } of list) {
      const places = placesOf(message)
      const chosen = places[place % places.length]
      if (chosen) mutate(chosen, pick)
    }
    return message
  }

  it(`answers ${REQUESTS} odd requests`, async (t) => {
    const property = fc.asyncProperty(changes, fc.nat(9), async (list, kind) => {
      if (kind === 0) {
        const config = changed(await fullSandbox(), list)
        // Log directories are the kubelet's: those outside the site would be made there.
        config.logDirectory = world.site.logDir
        const made = await judged(world.cri.runtime.runPodSandbox({ config }).then(({ podSandboxId }) => podSandboxId))
        if (made) await removePod(world.cri, made)
        return
      }
      const config = changed(fullContainer(), list)
      const request = { podSandboxId: sandboxId, config, sandboxConfig: sandbox }
      const made = await judged(world.cri.runtime.createContainer(request).then(({ containerId }) => containerId))
      if (made) await world.cri.runtime.removeContainer({ containerId: made })
    })
    await fc.assert(property, { numRuns: REQUESTS, endOnFailure: true })
    t.diagnostic(JSON.stringify(Object.fromEntries(seen)))
    canary.assertUnharmed()
    await removePod(world.cri, sandboxId)
    await world.assertNothingLeft()
  })
})
