/**
 * Odd requests by the thousand: the daemon must answer each with success or a code that says whose fault it is, soon, and
 * harm nothing. Slow, so not among the ordinary tests: `npm run test:long`; CRICKET_SWEEP is the number of requests
 * (20000), CRICKET_SWEEP_SEED repeats a run.
 */

import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { existsSync, readdirSync, rmdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { before, describe, it } from 'node:test'
import { inspect } from 'node:util'
import { status } from '@grpc/grpc-js'
import * as fc from 'fast-check'
import { NamespaceMode, PodSandboxConfig } from '#proto/generated/api.ts'
import { writtenApart } from './apart.ts'
import { type Canary, makeCanary } from './canary.ts'
import { CriError } from './cri-client.ts'
import { useWorld } from './harness.ts'
import {
  changed,
  fullContainer,
  fullSandbox,
  type OddRequest,
  oddRequests,
  TEXTS,
  usernsOptions,
} from './odd-requests.ts'
import { containerConfig, podConfig, removePod } from './pods.ts'

const REQUESTS = Number(process.env.CRICKET_SWEEP ?? 20_000)
const SEED = Number(process.env.CRICKET_SWEEP_SEED ?? randomInt(2 ** 31))
/** Requests on their way at the same time, each lane with a sandbox of its own. */
const LANES = 4
const CODES = [
  status.INVALID_ARGUMENT,
  status.FAILED_PRECONDITION,
  status.NOT_FOUND,
  status.ALREADY_EXISTS,
  status.RESOURCE_EXHAUSTED,
  status.UNIMPLEMENTED,
]
const SENTINEL = /^(RROUnsupported|ImageVolumeMountFailed): /
const SOON_MS = 1000

interface Lane {
  /** Whether its pod has a user namespace of its own. */
  readonly mapped: boolean
  readonly sandbox: PodSandboxConfig
  readonly sandboxId: string
}

describe('the daemon', () => {
  // Other programs of the machine make files too: only what this daemon makes is looked at.
  const world = useWorld({ isApart: true })
  let canary: Canary
  const lanes: Lane[] = []

  before(async () => {
    canary = makeCanary(world.site.path('canary'))
    for (let index = 0; index < LANES; index++) {
      const mapped = index % 2 === 1
      const plain = await podConfig(world.site, `sweep-${index}`)
      const namespaceOptions = { pid: NamespaceMode.CONTAINER, usernsOptions: usernsOptions(mapped) }
      const linux = { ...plain.linux, securityContext: { namespaceOptions } }
      const sandbox = PodSandboxConfig.fromPartial({ ...plain, linux })
      const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
      lanes.push({ mapped, sandbox, sandboxId: podSandboxId })
    }
  })

  const seen = new Map<string, number>()
  const slow: OddRequest[] = []
  /** Cgroups that pods were asked to lie in: who asks makes them, and takes them away. */
  const parents = new Set<string>()
  let slowestRefusal = 0
  let unsent = 0

  /** Sends it and takes away what it made. @returns milliseconds until it was refused; undefined when it was not */
  const send = async ({ kind, changes }: OddRequest, lane: Lane, index: number): Promise<number | undefined> => {
    const call = kind === 0 ? await sandboxCall(changes, index) : containerCall(changes, lane)
    const began = performance.now()
    try {
      await (await call())()
      count('OK')
      return undefined
    } catch (error) {
      assert.ok(error instanceof CriError, `${error}`)
      // What no client can put into a message: not sent.
      if (error.details.startsWith('Request message serialization failure')) {
        unsent++
        return undefined
      }
      const isKnown = CODES.includes(error.code) || (error.code === status.UNKNOWN && SENTINEL.test(error.details))
      assert.ok(isKnown, `${error.message.slice(0, 1000)}\n${inspect(call.message, { depth: 9 }).slice(0, 4000)}`)
      count(status[error.code])
      // What only the OCI runtime finds out takes as long as its program.
      return error.details.includes('runc') ? undefined : performance.now() - began
    }
  }

  /** A request; sending it answers with what removes what it made. */
  type Call = (() => Promise<() => Promise<unknown>>) & { message: object }

  const sandboxCall = async (changes: OddRequest['changes'], index: number): Promise<Call> => {
    const network = index % 5 === 0 ? NamespaceMode.POD : NamespaceMode.NODE
    const config = changed(fullSandbox(await podConfig(world.site, `odd-${index}`), network), changes)
    const call = async () => {
      const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config })
      parents.add(config.linux?.cgroupParent ?? '')
      return () => removePod(world.cri, podSandboxId)
    }
    return Object.assign(call, { message: config })
  }

  const containerCall = (changes: OddRequest['changes'], { sandboxId, sandbox, mapped }: Lane): Call => {
    const plain = containerConfig('main', world.image, ['true'])
    const config = changed(fullContainer(plain, world.site.logDir, mapped), changes)
    const call = async () => {
      const request = { podSandboxId: sandboxId, config, sandboxConfig: sandbox }
      const { containerId } = await world.cri.runtime.createContainer(request)
      return () => world.cri.runtime.removeContainer({ containerId })
    }
    return Object.assign(call, { message: config })
  }

  const count = (code: string): void => {
    seen.set(code, (seen.get(code) ?? 0) + 1)
  }

  it('accepts the requests that are made odd', async () => {
    for (const lane of lanes) {
      for (const [kind, index] of [
        [0, 0],
        [0, 1],
        [1, 0],
      ] as const) {
        await send({ kind, changes: [] }, lane, index)
      }
    }
    assert.deepEqual([...seen.keys()], ['OK'])
  })

  it(`answers ${REQUESTS} odd requests`, async (t) => {
    t.diagnostic(`seed ${SEED}`)
    const strangers = strangeCgroups()
    const work = fc.sample(oddRequests, { numRuns: 2 * REQUESTS, seed: SEED }).entries()
    const began = performance.now()
    const run = async (lane: Lane) => {
      for (const [index, request] of work) {
        if (index - unsent >= REQUESTS) return
        const took = await send(request, lane, index)
        slowestRefusal = Math.max(slowestRefusal, took ?? 0)
        if (took !== undefined && took > SOON_MS) slow.push(request)
        if (index % 1000 === 999) t.diagnostic(`${index + 1} after ${seconds(began)}`)
      }
    }
    await Promise.all(lanes.map(run))
    assert.ok([...seen.values()].reduce((sum, number) => sum + number, 0) >= REQUESTS)
    t.diagnostic(`${seconds(began)}, slowest refusal ${slowestRefusal.toFixed(0)} ms: ${figures()}`)
    await assertNoHang()
    canary.assertUnharmed()
    assert.deepEqual(writtenApart(world.site, world.runtime.pid), [])
    for (const parent of parents) if (parent !== world.site.cgroupParent) removeCgroups(parent, strangers)
    assert.deepEqual(strangeCgroups(), strangers)
    for (const { sandboxId } of lanes) await removePod(world.cri, sandboxId)
    await world.assertNothingLeft()
  })

  const figures = (): string => JSON.stringify(Object.fromEntries(seen))

  /** On a machine with other work, one that was slow is asked again alone: a hang is what is slow every time. */
  const assertNoHang = async (): Promise<void> => {
    for (const request of slow) {
      const [lane] = lanes
      assert.ok(lane)
      const took: number[] = []
      while (took.length < 5) {
        const ms = await send(request, lane, 1_000_000 + took.length)
        took.push(ms ?? 0)
        if (ms === undefined || ms < SOON_MS) break
      }
      assert.ok(Math.min(...took) < SOON_MS, `takes ${took.map(Math.round)} ms: ${JSON.stringify(request)}`)
    }
  }
})

const seconds = (began: number): string => `${((performance.now() - began) / 1000).toFixed(0)} s`

const CGROUPS = '/sys/fs/cgroup'
const hierarchies = (): string[] => {
  const entries = readdirSync(CGROUPS, { withFileTypes: true })
  return [CGROUPS, ...entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(CGROUPS, name))]
}

/** Which cgroups that a text of a request could name are there. */
function strangeCgroups(): string[] {
  const names = TEXTS.filter((text) => text.length < 100 && !text.includes('\0') && !/[/.]{1,2}$/.test(text))
  return hierarchies()
    .flatMap((base) => names.map((name) => join(base, name)))
    .filter((place) => existsSync(place))
}

/** Takes one away, with those it lies in, as far as it was not there before and nothing is in them. */
function removeCgroups(parent: string, before: readonly string[]): void {
  for (const base of hierarchies())
    for (
      let place = join(base, parent);
      place.startsWith(`${base}/`) && !before.includes(place);
      place = dirname(place)
    )
      try {
        rmdirSync(place)
      } catch {
        // Somebody else's, or not of this hierarchy.
        break
      }
}
