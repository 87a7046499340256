/** Who joins while a container is being made hears of it once: in what there is, or as an event. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { duplexPair } from 'node:stream'
import { type TestContext, test } from 'node:test'
import { linux } from '#linux/linux.ts'
import { ContainerConfig } from '#proto/generated/api.ts'
import {
  ConfigureResponse,
  CreateContainerRequest,
  StopContainerRequest,
  SynchronizeRequest,
} from '#proto/generated/nri.ts'
import { silentLog } from '#proto/log.ts'
import { type Container, type ContainerStore, containerCodec } from '../container/container.ts'
import { mintContainerId, mintSandboxId } from '../ids.ts'
import type { OciSpec } from '../oci/spec/types.ts'
import { pathsUnder } from '../paths.ts'
import { RecordStore } from '../records/record-store.ts'
import { type SandboxStore, sandboxCodec } from '../sandbox/sandbox.ts'
import type { AdjustContext } from './apply-adjustment.ts'
import { ContainerEvents } from './container-events.ts'
import { meetPlugin } from './meet-plugin.ts'
import { PluginWishes } from './plugin-wishes.ts'
import { Plugins } from './plugins.ts'
import { PodEvents } from './pod-events.ts'
import { Telling } from './telling.ts'
import { FakePlugin } from './testing/fake-plugin.ts'

const LONG_MS = 60_000

const SPEC: OciSpec = {
  ociVersion: '1.0.2',
  root: { path: '/r', readonly: false },
  process: {
    terminal: false,
    user: { uid: 0, gid: 0, additionalGids: [] },
    args: ['sleep'],
    env: [],
    cwd: '/',
    capabilities: { bounding: [], effective: [], permitted: [], inheritable: [], ambient: [] },
    noNewPrivileges: false,
    oomScoreAdj: 0,
  },
  mounts: [],
  annotations: {},
  linux: { namespaces: [], devices: [], cgroupsPath: '/c', resources: {}, maskedPaths: [], readonlyPaths: [] },
}

const CONTEXT: AdjustContext = {
  host: {
    arch: 'amd64',
    cgroupVersion: 2,
    cpus: 1,
    resctrl: false,
    apparmorEnabled: false,
    selinuxEnabled: false,
    seccompEnabled: true,
    canRaiseOom: true,
    oomScoreAdj: 0,
    hugetlb: true,
    swapAccounting: true,
    recursiveReadOnlyMounts: true,
    capabilities: [],
    thermalThrottlePaths: [],
  },
  requested: undefined,
  withCdi: (spec) => spec,
  blockIo: () => undefined,
  rdt: () => undefined,
}

async function node(t: TestContext) {
  const dir = await mkdtemp(join(tmpdir(), 'nri-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  const stores = { linux, log: silentLog }
  const containers: ContainerStore = new RecordStore({ dir: join(dir, 'containers'), codec: containerCodec, ...stores })
  const sandboxes: SandboxStore = new RecordStore({ dir: join(dir, 'sandboxes'), codec: sandboxCodec, ...stores })
  await Promise.all([containers.load(), sandboxes.load()])
  const plugins: Plugins = new Plugins({
    log: silentLog,
    synchronizeTimeoutMs: LONG_MS,
    snapshot: async () => ({ pods: [], containers: await events.snapshot() }),
    apply: async () => {},
  })
  const telling = new Telling(plugins, silentLog)
  const events: ContainerEvents = new ContainerEvents({
    telling,
    pods: new PodEvents(telling, sandboxes, pathsUnder(dir, dir, undefined)),
    wishes: new PluginWishes(silentLog),
    containers,
    rules: {
      enabled: false,
      rejectOciHooks: false,
      rejectRuntimeDefaultSeccomp: false,
      rejectUnconfinedSeccomp: false,
      rejectCustomSeccomp: false,
      rejectNamespaces: false,
      rejectSysctls: false,
      rejectRdt: false,
      requiredPlugins: [],
    },
    readSpec: async () => SPEC,
  })
  return { containers, events, plugins }
}

const made = (containers: ContainerStore): Promise<Container> => {
  const id = mintContainerId()
  return containers.create(
    {
      version: 1,
      id,
      key: id,
      sandboxId: mintSandboxId(),
      createdAt: 1n,
      runtimeHandler: '',
      bootId: 'b',
      config: ContainerConfig.fromPartial({}),
      imageId: 'sha256:1',
      imageRef: 'sha256:1',
      imageVolumes: [],
      cgroupsPath: '/c',
      cookie: 'c',
    },
    { state: 'creating' },
  )
}

/** A plugin that joins, and understands what there is only when it is let. */
async function joining(plugins: Plugins) {
  const [ours, theirs] = duplexPair()
  const told: string[] = []
  const gate = Promise.withResolvers<void>()
  const reached = Promise.withResolvers<void>()
  const plugin = new FakePlugin(theirs, {
    Configure: () => ConfigureResponse.encode({ events: 0 }).finish(),
    Synchronize: async (payload) => {
      told.push(...SynchronizeRequest.decode(payload).containers.map(({ id }) => `there ${id}`))
      reached.resolve()
      await gate.promise
      return new Uint8Array()
    },
    CreateContainer: (payload) => {
      told.push(`create ${CreateContainerRequest.decode(payload).container?.id}`)
      return new Uint8Array()
    },
    StopContainer: (payload) => {
      told.push(`stop ${StopContainerRequest.decode(payload).container?.id}`)
      return new Uint8Array()
    },
    RemoveContainer: (payload) => {
      told.push(`remove ${StopContainerRequest.decode(payload).container?.id}`)
      return new Uint8Array()
    },
  })
  const host = {
    registrationTimeoutMs: LONG_MS,
    requestTimeoutMs: LONG_MS,
    log: silentLog,
    claim: () => {},
    update: async () => ({ failed: [] }),
  }
  const met = meetPlugin({ socket: ours, config: '' }, host)
  await plugin.register('10', 'a')
  const joined = plugins.join(await met)
  await reached.promise
  return { told, joined, letIt: gate.resolve }
}

test('one that was past its turn, and is not visible yet, is among what there is', async (t) => {
  const { containers, events, plugins } = await node(t)
  const container = await made(containers)
  await events.create(container, SPEC, CONTEXT)
  const { told, joined, letIt } = await joining(plugins)
  letIt()
  await joined
  assert.deepEqual(told, [`there ${container.record.id}`])
  await events.undo(container)
  assert.deepEqual(told.slice(1), [`stop ${container.record.id}`, `remove ${container.record.id}`])
})

test('one whose turn comes later is told of as an event, and not before', async (t) => {
  const { containers, events, plugins } = await node(t)
  const { told, joined, letIt } = await joining(plugins)
  const container = await made(containers)
  const created = events.create(container, SPEC, CONTEXT)
  // Nobody may hear of it in both ways.
  assert.deepEqual(await events.snapshot(), [])
  letIt()
  await Promise.all([joined, created])
  assert.deepEqual(told, [`create ${container.record.id}`])
  assert.equal((await events.snapshot()).length, 1)
})

test('one that is visible, and not settled yet, is told of once', async (t) => {
  const { containers, events } = await node(t)
  const container = await made(containers)
  await events.create(container, SPEC, CONTEXT)
  const process = { user: { uid: 0, gid: 0, supplementalGroups: [] }, stopSignal: 'SIGTERM' }
  await container.update(() => ({ state: 'created', process }))
  assert.deepEqual(
    (await events.snapshot()).map(({ id }) => id),
    [container.record.id],
  )
  events.isThere(container)
  assert.equal((await events.snapshot()).length, 1)
})

test('one that has ended is no more among what there is', async (t) => {
  const { containers, events } = await node(t)
  const container = await made(containers)
  await container.update(() => ({ state: 'exited', finishedAt: 1n, exitCode: 0, reason: 'Completed', message: '' }))
  assert.deepEqual(await events.snapshot(), [])
})
