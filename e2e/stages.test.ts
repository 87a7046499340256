/**
 * The daemon is killed when it enters each stage of each operation that makes or ends a pod, and again while it recovers
 * from that; then the client comes back with the same calls, as the kubelet does. In the end there is one object, in the
 * right state, and nothing is left of it. CRICKET_E2E_ALL_CRASHES=1 crosses every stage with every step of the recovery.
 */

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import {
  type ContainerConfig,
  ContainerState,
  NamespaceMode,
  type PodSandboxConfig,
  PodSandboxState,
} from '#proto/generated/api.ts'
import { type CriClient, CriError } from './cri-client.ts'
import { cricketProgram } from './cricket.ts'
import { filesLeft } from './files-left.ts'
import { useWorld, type World } from './harness.ts'
import { describeLeftovers, findLeftovers, processesOf } from './leftovers.ts'
import { containerConfig, containerStatus, createContainer, podConfig, removeAllPods, until } from './pods.ts'
import { freePort } from './registry.ts'
import { Runtime } from './runtime.ts'

const every = process.env.CRICKET_E2E_ALL_CRASHES === '1'
const IDLE = ['sleep', '1000']

/** One pod on its way through its life, and the requests that a client repeats for it. */
interface Pod {
  readonly sandbox: PodSandboxConfig
  readonly container: ContainerConfig
  sandboxId?: string
  containerId?: string
}

type Call = (cri: CriClient, pod: Pod) => Promise<unknown>

const run: Call = async (cri, pod) => {
  pod.sandboxId = (await cri.runtime.runPodSandbox({ config: pod.sandbox })).podSandboxId
}
const create: Call = async (cri, pod) => {
  pod.containerId = await createContainer(cri, known(pod.sandboxId), pod.sandbox, pod.container)
}
const start: Call = (cri, pod) => cri.runtime.startContainer({ containerId: known(pod.containerId) })
/** A shell that has not set its trap yet ignores the stop signal. */
const isUp: Call = async (cri, pod) => {
  const cmd = ['sh', '-c', `until pidof sleep; do sleep 0.02; done`]
  await cri.runtime.execSync({ containerId: known(pod.containerId), cmd, timeout: 10n })
}
const stop: Call = (cri, pod) => cri.runtime.stopContainer({ containerId: known(pod.containerId), timeout: 5n })
const remove: Call = (cri, pod) => cri.runtime.removeContainer({ containerId: known(pod.containerId) })
const stopPod: Call = (cri, pod) => cri.runtime.stopPodSandbox({ podSandboxId: known(pod.sandboxId) })
const removePod: Call = (cri, pod) => cri.runtime.removePodSandbox({ podSandboxId: known(pod.sandboxId) })

function known(id: string | undefined): string {
  assert.ok(id, 'a call before it has made this')
  return id
}

interface Scenario {
  readonly rpc: string
  /** With a network, host ports and an init process; else on the host's network. */
  readonly full: boolean
  readonly before: readonly Call[]
  readonly call: Call
  /** How things must stand after the repeated call. */
  check(world: Crashing, pod: Pod): Promise<void>
}

const scenarios: readonly Scenario[] = [
  { rpc: 'RunPodSandbox', full: true, before: [], call: run, check: isReady },
  {
    rpc: 'CreateContainer',
    full: false,
    before: [run],
    call: create,
    check: hasState(ContainerState.CONTAINER_CREATED),
  },
  {
    rpc: 'StartContainer',
    full: false,
    before: [run, create],
    call: start,
    check: hasState(ContainerState.CONTAINER_RUNNING),
  },
  {
    rpc: 'StopContainer',
    full: false,
    before: [run, create, start, isUp],
    call: stop,
    check: hasState(ContainerState.CONTAINER_EXITED),
  },
  { rpc: 'RemoveContainer', full: false, before: [run, create, start], call: remove, check: hasNoContainer },
  { rpc: 'StopPodSandbox', full: true, before: [run, create, start], call: stopPod, check: isStopped },
  { rpc: 'RemovePodSandbox', full: true, before: [run, create, start], call: removePod, check: isGone },
]

/** A world whose daemon is started anew for each trial, with a crash point or without. */
class Crashing {
  readonly world: World
  #daemon: Runtime | undefined

  constructor(world: World) {
    this.world = world
  }

  get cri(): CriClient {
    return this.daemon.cri
  }

  get daemon(): Runtime {
    assert.ok(this.#daemon, 'no daemon runs')
    return this.#daemon
  }

  #program(crashPoint: string | undefined) {
    const program = cricketProgram(this.world.site)
    return { ...program, env: { ...program.env, ...(crashPoint && { CRICKET_CRASH_POINT: crashPoint }) } }
  }

  async start(crashPoint?: string): Promise<void> {
    // One is left running only by a trial that failed.
    if (this.#daemon?.isRunning) await this.#daemon.kill()
    if (this.world.runtime.isRunning) await this.world.runtime.stop()
    this.#daemon = new Runtime(this.#program(crashPoint))
    await this.#daemon.start()
  }

  async stop(): Promise<void> {
    if (this.#daemon?.isRunning) await this.#daemon.stop()
  }

  /** Starts a daemon that dies before it answers. */
  async dieAtStart(crashPoint: string): Promise<void> {
    await assert.rejects(new Runtime(this.#program(crashPoint)).start(), /ended at its start/, crashPoint)
  }

  /** Makes the call and sees the daemon die of it. */
  async dieOf(call: Promise<unknown>): Promise<void> {
    await call.catch((error) => assert.ok(error instanceof CriError, String(error)))
    await until('the daemon has died at its crash point', 10_000, async () =>
      this.daemon.isRunning ? undefined : true,
    )
  }

  async assertNothingLeft(): Promise<void> {
    assert.deepEqual((await this.cri.runtime.listPodSandbox({})).items, [])
    assert.deepEqual((await this.cri.runtime.listContainers({})).containers, [])
    await removedFiles(this.world)
    const left = await findLeftovers(this.world.site, { except: [this.world.registry.pid, this.daemon.pid] })
    assert.equal(describeLeftovers(left), '', 'left behind')
  }
}

/** A monitor that ends, and retiring, go on for a moment after the answer. */
async function removedFiles({ site }: World): Promise<void> {
  let left: string[] = []
  await until('no file is left', 3000, async () => {
    left = await filesLeft(site)
    return left.length === 0 ? true : undefined
  }).catch(() => assert.deepEqual(left, [], 'files are left'))
}

async function theSandbox({ cri }: Crashing, pod: Pod) {
  const { items } = await cri.runtime.listPodSandbox({})
  assert.deepEqual(
    items.map(({ id }) => id),
    [pod.sandboxId],
    'there is one sandbox, the one that the repeated call named',
  )
  return items[0]
}

async function isReady(crashing: Crashing, pod: Pod): Promise<void> {
  const sandbox = await theSandbox(crashing, pod)
  assert.equal(sandbox?.state, PodSandboxState.SANDBOX_READY)
  const { status } = await crashing.cri.runtime.podSandboxStatus({ podSandboxId: known(pod.sandboxId) })
  assert.match(status?.network?.ip ?? '', /^10\./)
  await countProcesses(crashing.world, '/init -P', 1)
}

async function isStopped(crashing: Crashing, pod: Pod): Promise<void> {
  const sandbox = await theSandbox(crashing, pod)
  assert.equal(sandbox?.state, PodSandboxState.SANDBOX_NOTREADY)
  assert.equal((await containerStatus(crashing.cri, known(pod.containerId))).state, ContainerState.CONTAINER_EXITED)
}

async function isGone({ cri }: Crashing): Promise<void> {
  assert.deepEqual((await cri.runtime.listPodSandbox({})).items, [])
}

async function hasNoContainer({ cri }: Crashing): Promise<void> {
  assert.deepEqual((await cri.runtime.listContainers({})).containers, [])
}

/** A process that was told to start becomes the program a moment later. */
async function countProcesses({ site }: World, commandLine: string, want: number): Promise<void> {
  await until(`there are ${want} processes '${commandLine}'`, 3000, async () => {
    const found = (await processesOf(site, [])).filter(({ name }) => name === commandLine)
    return found.length === want ? true : undefined
  })
}

function hasState(state: ContainerState) {
  return async ({ cri, world }: Crashing, pod: Pod): Promise<void> => {
    const { containers } = await cri.runtime.listContainers({})
    assert.deepEqual(
      containers.map(({ id }) => id),
      [pod.containerId],
      'there is one container, the one that the repeated call named',
    )
    const status = await containerStatus(cri, known(pod.containerId))
    assert.equal(status.state, state, 'the state of the container')
    await countProcesses(world, IDLE.join(' '), state === ContainerState.CONTAINER_RUNNING ? 1 : 0)
    if (state !== ContainerState.CONTAINER_EXITED) return
    assert.equal(status.exitCode, 143)
    assert.equal(status.reason, 'Error')
  }
}

async function newPod({ site, image }: World, { full }: Scenario): Promise<Pod> {
  const network = full ? NamespaceMode.POD : NamespaceMode.NODE
  const pid = full ? NamespaceMode.POD : NamespaceMode.CONTAINER
  const sandbox = await podConfig(site, 'staged', {
    ...(full && { portMappings: [{ containerPort: 80, hostPort: await freePort() }] }),
    linux: {
      cgroupParent: site.cgroupParent,
      securityContext: { namespaceOptions: { network, pid, ipc: NamespaceMode.POD } },
    },
  })
  const container = containerConfig('main', image, ['sh', '-c', `trap 'exit 143' TERM; ${IDLE.join(' ')} & wait`], {
    linux: { securityContext: { namespaceOptions: { network, pid, ipc: NamespaceMode.POD } } },
  })
  return { sandbox, container }
}

/** A stage as a crash point: the n-th time that an operation enters it. */
interface Stage {
  readonly place: string
  readonly point: string
}

/** What the listing daemon wrote since `from`. */
function stagesIn(log: string): Stage[] {
  const times = new Map<string, number>()
  return [...log.matchAll(/^stage (.+)$/gm)].map(([, place = '']) => {
    const time = (times.get(place) ?? 0) + 1
    times.set(place, time)
    return { place, point: time === 1 ? place : `${place}#${time}` }
  })
}

const logOf = ({ site }: World): string => readFileSync(site.path('cricket.log'), 'utf8')

/** The stages that the call goes through, and those that the next start does. */
async function listStages(crashing: Crashing, scenario: Scenario): Promise<{ call: Stage[]; start: Stage[] }> {
  const { world } = crashing
  const earlier = logOf(world).length
  await crashing.start('list')
  const starting = stagesIn(logOf(world).slice(earlier))
  const pod = await newPod(world, scenario)
  for (const call of scenario.before) await call(crashing.cri, pod)
  const from = logOf(world).length
  await scenario.call(crashing.cri, pod)
  const calling = stagesIn(logOf(world).slice(from))
  await removeAllPods(crashing.cri)
  await crashing.assertNothingLeft()
  await crashing.stop()
  return { call: calling, start: starting }
}

/** Every name that the sources give a stage of these operations: none may be missing from what was tried. */
function stagesInSources(): Set<string> {
  const top = join(import.meta.dirname, '..', 'daemon')
  const names = ['sandbox', 'container'].flatMap((folder) =>
    readdirSync(join(top, folder))
      .filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'))
      .flatMap((name) => [...readFileSync(join(top, folder, name), 'utf8').matchAll(/\.enter\('([^']+)'\)/g)])
      .map(([, stage = '']) => stage),
  )
  return new Set(names)
}

/** What only images of checkpoints come to: `checkpoint.test.ts` kills a daemon there. */
const ELSEWHERE = ['archive']

const tried = new Set<string>()
let crashes = 0

describe('a daemon killed at a stage', () => {
  const world = useWorld()
  const crashing = new Crashing(world)
  after(() => crashing.stop())

  /** @param restoring the recovery's own stages at which the next daemons die */
  async function trial(scenario: Scenario, stage: Stage, restoring: readonly string[]): Promise<void> {
    const pod = await newPod(world, scenario)
    await crashing.start(stage.point)
    for (const call of scenario.before) await call(crashing.cri, pod)
    await crashing.dieOf(scenario.call(crashing.cri, pod))
    tried.add(stage.place)
    crashes++
    for (const point of restoring) {
      await crashing.dieAtStart(point)
      crashes++
    }
    await crashing.start()
    await repeat(crashing, scenario, pod)
    await scenario.check(crashing, pod)
    await removeAllPods(crashing.cri)
    await crashing.assertNothingLeft()
    await crashing.stop()
  }

  let turn = 0
  for (const scenario of scenarios) {
    it(`of ${scenario.rpc} is followed by one that finishes or undoes it`, async (t) => {
      const { call, start: steps } = await listStages(crashing, scenario)
      assert.ok(call.length > 1 && steps.length > 1, 'the daemon names its stages')
      const recoveries = steps.map(({ point }) => point)
      for (const stage of call) {
        // One step of the recovery for each stage, the next one for the next.
        const sample = recoveries[turn++ % recoveries.length] ?? ''
        // What the call has in common with one that is tried by itself is tried with a second crash only.
        const once = stage.place.startsWith(scenario.rpc) ? [[]] : []
        for (const restoring of every ? [[], ...recoveries.map((point) => [point])] : [...once, [sample]]) {
          await assert.doesNotReject(trial(scenario, stage, restoring), [stage.point, ...restoring].join(', then '))
        }
      }
      t.diagnostic(`${scenario.rpc}: ${call.map(({ point }) => point).join(', ')}`)
    })
  }

  it('was killed at every stage there is', (t) => {
    const seen = new Set([...tried].map((place) => place.split('/')[1]))
    assert.deepEqual(
      [...stagesInSources()].filter((stage) => !seen.has(stage) && !ELSEWHERE.includes(stage)),
      [],
    )
    t.diagnostic(`${tried.size} stages tried, ${crashes} kills`)
  })
})

/** What the kubelet does when the daemon is there again: the same call; a start that has taken place is refused. */
async function repeat(crashing: Crashing, scenario: Scenario, pod: Pod): Promise<void> {
  const { cri } = crashing
  if (scenario.call !== start) return void (await scenario.call(cri, pod))
  const { state } = await containerStatus(cri, known(pod.containerId))
  if (state !== ContainerState.CONTAINER_RUNNING) return void (await start(cri, pod))
  await assert.rejects(start(cri, pod), /running/)
}
