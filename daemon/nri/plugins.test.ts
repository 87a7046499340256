/** Plugins that come, stay, hang, lie and die, each a script; the node goes on whatever they do. */
import assert from 'node:assert/strict'
import { duplexPair } from 'node:stream'
import { describe, test } from 'node:test'
import { isKind, RuntimeError } from '#proto/errors.ts'
import {
  ConfigureRequest,
  ConfigureResponse,
  Container,
  ContainerUpdate,
  CreateContainerRequest,
  CreateContainerResponse,
  Event,
  PodSandbox,
  StateChangeEvent,
  SynchronizeRequest,
  SynchronizeResponse,
  UpdateContainersRequest,
  UpdateContainersResponse,
  ValidateContainerAdjustmentRequest,
  ValidateContainerAdjustmentResponse,
} from '#proto/generated/nri.ts'
import type { Log } from '#proto/log.ts'
import { askCreate } from './ask-create.ts'
import type { ValidatorRules } from './default-validator.ts'
import { meetPlugin, type PluginHost } from './meet-plugin.ts'
import { ALL_EVENTS, METHODS } from './methods.ts'
import { Plugins } from './plugins.ts'
import { inParts, type Snapshot } from './synchronize.ts'
import { FakePlugin, FakeRefusal, type Script } from './testing/fake-plugin.ts'
import { CONNECTION, encodeMessage, MESSAGE_TYPE } from './ttrpc/frames.ts'

const quiet: Log = { debug() {}, info() {}, warn() {}, error() {}, child: () => quiet }

const subscribed = (events = ALL_EVENTS): Script => ({ Configure: () => ConfigureResponse.encode({ events }).finish() })

const RULES: ValidatorRules = {
  enabled: false,
  rejectOciHooks: false,
  rejectRuntimeDefaultSeccomp: false,
  rejectUnconfinedSeccomp: false,
  rejectCustomSeccomp: false,
  rejectNamespaces: false,
  rejectSysctls: false,
  rejectRdt: false,
  requiredPlugins: [],
}

interface NodeOptions {
  readonly registrationTimeoutMs?: number
  readonly requestTimeoutMs?: number
  readonly snapshot?: () => Promise<Snapshot>
}

/** A node without containers, unless the test says otherwise. */
function node({ registrationTimeoutMs = 60_000, requestTimeoutMs = 60_000, snapshot }: NodeOptions = {}) {
  const wishes: string[] = []
  const plugins = new Plugins({
    log: quiet,
    synchronizeTimeoutMs: requestTimeoutMs,
    snapshot: snapshot ?? (async () => ({ pods: [], containers: [] })),
    apply: async (updates) => void wishes.push(...updates.map(({ containerId }) => containerId)),
  })
  const host: PluginHost = {
    registrationTimeoutMs,
    requestTimeoutMs,
    log: quiet,
    claim: (identity, until) => plugins.claim(identity, until),
    update: async (plugin, { update }) => {
      wishes.push(...update.map(({ containerId }) => `${plugin}:${containerId}`))
      return { failed: update.filter(({ containerId }) => containerId === 'gone') }
    },
  }
  const connect = (script: Script = {}) => {
    const [ours, theirs] = duplexPair()
    const plugin = new FakePlugin(theirs, { ...subscribed(), ...script })
    return { plugin, met: meetPlugin({ socket: ours, config: 'text' }, host) }
  }
  /** Connected, registered, configured and told what there is. */
  const joined = async (name: string, script: Script = {}) => {
    const { plugin, met } = connect(script)
    await plugin.register(name.slice(0, 2), name.slice(3))
    const ours = await met
    await plugins.join(ours)
    return { plugin, ours }
  }
  return { plugins, wishes, connect, joined }
}

const pod = (id: string) => PodSandbox.create({ id })
const containerOf = (id: string, text = '') => Container.create({ id, args: [text] })

const create = (plugins: Plugins, rules: ValidatorRules = RULES, about = containerOf('c1'), of = pod('p1')) =>
  plugins.turn(() => askCreate(plugins.active, rules, { pod: of, container: about }))

const adjusting = (adjust: Parameters<typeof CreateContainerResponse.create>[0]): Script => ({
  CreateContainer: () => CreateContainerResponse.encode(CreateContainerResponse.create(adjust)).finish(),
})

const refused = (what: RegExp) => (error: unknown) => isKind(error, 'failed-precondition') && what.test(error.message)

describe('a plugin that connects', () => {
  test('is told who we are, its configuration and its deadlines', async () => {
    let told: ConfigureRequest | undefined
    const { joined } = node({ registrationTimeoutMs: 5000, requestTimeoutMs: 3000 })
    const { plugin } = await joined('10-a', {
      Configure: (payload) => {
        told = ConfigureRequest.decode(payload)
        return subscribed().Configure?.(payload) ?? new Uint8Array()
      },
    })
    assert.equal(told?.runtimeName, 'cricket')
    assert.equal(told?.config, 'text')
    assert.deepEqual([told?.registrationTimeout, told?.requestTimeout], [5000n, 3000n])
    assert.deepEqual(plugin.asked, ['Configure', 'Synchronize'])
  })

  test('and does not register in time is gone', async () => {
    const { connect } = node({ registrationTimeoutMs: 20 })
    await assert.rejects(connect().met, (error) => isKind(error, 'deadline-exceeded'))
  })

  test('and goes is gone', async () => {
    const { plugin, met } = node().connect()
    plugin.socket.destroy()
    await assert.rejects(met, (error) => isKind(error, 'unavailable'))
  })

  for (const [index, name] of [
    ['1', 'a'],
    ['1x', 'a'],
    ['10', ''],
    ['10', 'a b'],
    ['10', '../x'],
    ['10', 'a'.repeat(300)],
  ] as const) {
    test(`may not call itself ${JSON.stringify(`${index}-${name.slice(0, 9)}`)}`, async () => {
      const { plugin, met } = node().connect()
      const outcome = assert.rejects(met)
      await assert.rejects(plugin.register(index, name), (error) => error instanceof FakeRefusal && error.code === 3)
      plugin.socket.destroy()
      await outcome
    })
  }

  test('registers once, and nobody else by its name, until it has gone', async () => {
    const { joined, connect, plugins } = node()
    const { plugin, ours } = await joined('10-a')
    const taken = (error: unknown) => error instanceof FakeRefusal && error.code === 6
    await assert.rejects(plugin.register('10', 'a'), taken)
    const second = connect()
    const outcome = assert.rejects(second.met)
    await assert.rejects(second.plugin.register('10', 'a'), taken)
    second.plugin.socket.destroy()
    await outcome
    assert.equal(ours.isGone, false, 'the first one stays')
    plugin.socket.destroy()
    await ours.gone
    await joined('10-a')
    assert.deepEqual(
      plugins.active.map(({ name }) => name),
      ['10-a'],
    )
  })

  test('and wants events that there are not is gone', async () => {
    const { plugin, met } = node().connect(subscribed(1 << 20))
    const outcome = assert.rejects(met, (error) => isKind(error, 'invalid-argument'))
    await plugin.register('10', 'a')
    await outcome
  })

  test('and says nothing of events gets all that do not judge others', async () => {
    const { ours } = await node().joined('10-a', subscribed(0))
    assert.equal(ours.wants(Event.CREATE_CONTAINER), true)
    assert.equal(ours.wants(Event.VALIDATE_CONTAINER_ADJUSTMENT), false)
  })

  test('and answers its configuration with noise is gone', async () => {
    const { plugin, met } = node().connect({ Configure: () => Buffer.alloc(9, 0xff) })
    const outcome = assert.rejects(met)
    await plugin.register('10', 'a')
    await outcome
  })

  test('may ask for updates once it is configured, not before', async () => {
    const { connect, joined, wishes } = node()
    const request = UpdateContainersRequest.create({ update: [{ containerId: 'a' }, { containerId: 'gone' }] })
    const bytes = UpdateContainersRequest.encode(request).finish()
    const early = connect()
    const outcome = assert.rejects(early.met)
    await assert.rejects(early.plugin.call('UpdateContainers', bytes), FakeRefusal)
    early.plugin.socket.destroy()
    await outcome
    const { plugin } = await joined('10-a')
    const answer = UpdateContainersResponse.decode(await plugin.call('UpdateContainers', bytes))
    assert.deepEqual(
      answer.failed.map(({ containerId }) => containerId),
      ['gone'],
    )
    assert.deepEqual(wishes, ['10-a:a', '10-a:gone'])
    await assert.rejects(plugin.call('Reboot', bytes), (error) => error instanceof FakeRefusal && error.code === 12)
  })
})

describe('a plugin that joins', () => {
  test('hears of each container once, in what there is or as an event', async () => {
    const there: Container[] = []
    const { plugins, connect } = node({ snapshot: async () => ({ pods: [], containers: [...there] }) })
    const seen: string[] = []
    const gate = Promise.withResolvers<void>()
    const reached = Promise.withResolvers<void>()
    const script: Script = {
      Synchronize: async (payload) => {
        seen.push(...SynchronizeRequest.decode(payload).containers.map(({ id }) => id))
        reached.resolve()
        await gate.promise
        return SynchronizeResponse.encode(SynchronizeResponse.create({})).finish()
      },
      CreateContainer: (payload) => {
        seen.push(CreateContainerRequest.decode(payload).container?.id ?? '')
        return new Uint8Array()
      },
    }
    const made = async (id: string) => {
      const ask = async () => {
        await askCreate(plugins.active, RULES, { pod: pod('p'), container: containerOf(id) })
        there.push(containerOf(id))
      }
      await (plugins.wants(Event.CREATE_CONTAINER) ? plugins.turn(ask) : ask())
    }
    await made('before')
    const { plugin, met } = connect(script)
    await plugin.register('10', 'a')
    const join = met.then((ours) => plugins.join(ours))
    await reached.promise
    const during = Promise.all(['d1', 'd2', 'd3'].map(made))
    gate.resolve()
    await Promise.all([join, during])
    await made('after')
    assert.deepEqual(seen, ['before', 'd1', 'd2', 'd3', 'after'])
  })

  test('is told of much in parts that fit, and what it wants changed is done', async () => {
    const containers = Array.from({ length: 30 }, (_, index) => containerOf(`c${index}`, 'x'.repeat(300_000)))
    const { joined, wishes } = node({ snapshot: async () => ({ pods: [pod('p')], containers }) })
    const seen: string[] = []
    let parts = 0
    await joined('10-a', {
      Synchronize: (payload) => {
        const { containers: some, more } = SynchronizeRequest.decode(payload)
        seen.push(...some.map(({ id }) => id))
        parts++
        const update = more ? [] : [ContainerUpdate.create({ containerId: 'c7' })]
        return SynchronizeResponse.encode({ more, update }).finish()
      },
    })
    assert.ok(parts >= 3, String(parts))
    assert.deepEqual(
      seen,
      containers.map(({ id }) => id),
    )
    assert.deepEqual(wishes, ['c7'])
  })

  test('and does not understand parts is gone', async () => {
    const containers = Array.from({ length: 30 }, (_, index) => containerOf(`c${index}`, 'x'.repeat(300_000)))
    const { joined, plugins } = node({ snapshot: async () => ({ pods: [], containers }) })
    const deaf: Script = { Synchronize: () => SynchronizeResponse.encode({ more: false, update: [] }).finish() }
    await assert.rejects(joined('10-a', deaf), (error) => isKind(error, 'unavailable'))
    assert.deepEqual(plugins.active, [])
  })

  test('and never understands what there is holds nothing up for long', async () => {
    const { joined, plugins } = node({ requestTimeoutMs: 30 })
    const hung = assert.rejects(joined('10-a', { Synchronize: () => new Promise(() => {}) }))
    await hung
    assert.equal(plugins.wants(Event.CREATE_CONTAINER), false)
    await create(plugins)
  })

  test('parts hold everything once', () => {
    const parts = inParts({ pods: [pod('p'), pod('q')], containers: ['a', 'b', 'c'].map((id) => containerOf(id)) }, 20)
    assert.ok(parts.length > 1)
    assert.deepEqual(
      parts.flatMap(({ pods }) => pods.map(({ id }) => id)),
      ['p', 'q'],
    )
    assert.deepEqual(
      parts.flatMap(({ containers }) => containers.map(({ id }) => id)),
      ['a', 'b', 'c'],
    )
    assert.equal(inParts({ pods: [], containers: [] }).length, 1)
  })
})

describe('an event', () => {
  test('goes to those who want it, in the order of their index', async () => {
    const { joined, plugins } = node()
    const order: string[] = []
    const noting = (name: string): Script => ({
      RunPodSandbox: () => {
        order.push(name)
        return new Uint8Array()
      },
    })
    await joined('50-late', noting('late'))
    await joined('05-early', noting('early'))
    await joined('20-deaf', { ...noting('deaf'), ...subscribed(1 << (Event.CREATE_CONTAINER - 1)) })
    await plugins.tell(METHODS.runPod, { pod: pod('p') })
    assert.deepEqual(order, ['early', 'late'])
  })

  test('is told by StateChange to those who know no other way', async () => {
    let told: StateChangeEvent | undefined
    const { joined, plugins } = node()
    await joined('10-old', {
      RemoveContainer: () => {
        throw new FakeRefusal(12, 'unimplemented')
      },
      StateChange: (payload) => {
        told = StateChangeEvent.decode(payload)
        return new Uint8Array()
      },
    })
    await plugins.tell(METHODS.remove, { pod: pod('p'), container: containerOf('c') })
    assert.equal(told?.event, Event.REMOVE_CONTAINER)
    assert.deepEqual([told?.pod?.id, told?.container?.id], ['p', 'c'])
  })

  test('that a plugin refuses is refused, with its name and reason, and it stays', async () => {
    const { joined, plugins } = node()
    const { ours } = await joined('10-no', {
      RunPodSandbox: () => {
        throw new FakeRefusal(2, 'not on my node')
      },
    })
    await assert.rejects(
      plugins.tell(METHODS.runPod, { pod: pod('p') }),
      refused(/"10-no" refuses RunPodSandbox: not on my node/),
    )
    assert.equal(ours.isGone, false)
  })

  const broken: Record<string, (plugin: FakePlugin) => Script> = {
    hangs: () => ({ CreateContainer: () => new Promise(() => {}) }),
    dies: (plugin) => ({
      CreateContainer: () => {
        plugin.socket.destroy()
        return new Uint8Array()
      },
    }),
    'answers noise': () => ({ CreateContainer: () => Buffer.alloc(20, 0xff) }),
    'breaks the protocol': (plugin) => ({
      CreateContainer: () => {
        plugin.socket.write(encodeMessage(CONNECTION.plugin, 99, MESSAGE_TYPE.response, Buffer.alloc(3)))
        return new Promise(() => {})
      },
    }),
  }
  for (const [what, scriptFor] of Object.entries(broken)) {
    test(`goes on without a plugin that ${what}`, async () => {
      const { joined, plugins } = node({ requestTimeoutMs: 200 })
      const script: Script = {}
      const { plugin, ours } = await joined('10-bad', {
        CreateContainer: (payload) => script.CreateContainer?.(payload) ?? new Uint8Array(),
      })
      Object.assign(script, scriptFor(plugin))
      await joined('20-good', adjusting({ adjust: { env: [{ key: 'A', value: '1' }] } }))
      const { adjustment } = await create(plugins)
      assert.deepEqual(adjustment.env, [{ key: 'A', value: '1' }])
      await ours.gone
      assert.deepEqual(
        plugins.active.map(({ name }) => name),
        ['20-good'],
      )
    })
  }
})

describe('validators', () => {
  const enabled = { ...RULES, enabled: true }
  const forbidden: [keyof ValidatorRules, Parameters<typeof CreateContainerResponse.create>[0], RegExp][] = [
    ['rejectOciHooks', { adjust: { hooks: { poststop: [{ path: '/h' }] } } }, /"10-a" adjusts OCI hooks/],
    [
      'rejectUnconfinedSeccomp',
      { adjust: { linux: { seccompPolicy: {} } } },
      /seccomp profile of a container that has none/,
    ],
    ['rejectNamespaces', { adjust: { linux: { namespaces: [{ type: 'pid' }] } } }, /namespaces/],
    ['rejectSysctls', { adjust: { linux: { sysctl: { 'net.x': '1' } } } }, /kernel parameters/],
    ['rejectRdt', { adjust: { linux: { rdt: { closId: { value: 'x' } } } } }, /RDT/],
    ['rejectRdt', { adjust: { linux: { rdt: { remove: true } } } }, /"10-a" adjusts cache/],
  ]
  for (const [rule, reply, message] of forbidden) {
    test(`${rule}: ${JSON.stringify(reply)}`, async () => {
      const { joined, plugins } = node()
      await joined('10-a', adjusting(reply))
      await create(plugins)
      await create(plugins, enabled)
      await assert.rejects(create(plugins, { ...enabled, [rule]: true }), refused(message))
    })
  }

  for (const [rule, profileType] of [
    ['rejectRuntimeDefaultSeccomp', 0],
    ['rejectCustomSeccomp', 2],
  ] as const) {
    test(`${rule}: the seccomp policy of a container that has one`, async () => {
      const { joined, plugins } = node()
      await joined('10-a', adjusting({ adjust: { linux: { seccompPolicy: {} } } }))
      const about = Container.create({ id: 'c1', linux: { seccompProfile: { profileType } } })
      await create(plugins, enabled, about)
      await assert.rejects(create(plugins, { ...enabled, [rule]: true }, about), refused(/seccomp/))
    })
  }

  test('a required plugin has to be there, unless the pod tolerates that it is not', async () => {
    const { joined, plugins } = node({ requestTimeoutMs: 200 })
    const rules = { ...enabled, requiredPlugins: ['a'], tolerateMissingPluginsAnnotation: 'ok.example/without' }
    const annotated = (annotations: Record<string, string>) => PodSandbox.create({ id: 'p', annotations })
    const about = Container.create({ id: 'c1', name: 'main' })
    await assert.rejects(create(plugins, rules), refused(/required plugins are not there: a/))
    await create(plugins, rules, about, annotated({ 'ok.example/without': 'true' }))
    await create(
      plugins,
      rules,
      about,
      annotated({ 'ok.example/without': 'false', 'ok.example/without/container.main': 'true' }),
    )
    await assert.rejects(
      create(plugins, rules, about, annotated({ 'ok.example/without': 'perhaps' })),
      refused(/neither/),
    )
    await joined('10-a', {})
    await create(plugins, rules)
    const needsTwo = annotated({ 'required-plugins.noderesource.dev/pod': '[a, b]' })
    await assert.rejects(create(plugins, rules, about, needsTwo), refused(/not there: b/))
    await assert.rejects(
      create(plugins, rules, about, annotated({ 'required-plugins.noderesource.dev': '{' })),
      refused(/no list/),
    )
    await create(plugins, RULES, about, needsTwo)
  })

  test('a required plugin that dies of the container is not there', async () => {
    const { joined, plugins } = node({ requestTimeoutMs: 50 })
    await joined('10-a', { CreateContainer: () => new Promise(() => {}) })
    await assert.rejects(create(plugins, { ...enabled, requiredPlugins: ['a'] }), refused(/not there: a/))
  })

  test('that are plugins see who set what, and may say no', async () => {
    let judged: ValidateContainerAdjustmentRequest | undefined
    const answer = { reject: false, reason: 'no such variable here' }
    const { joined, plugins } = node()
    await joined('10-a', adjusting({ adjust: { env: [{ key: 'A', value: '1' }] } }))
    await joined('90-judge', {
      ValidateContainerAdjustment: (payload) => {
        judged = ValidateContainerAdjustmentRequest.decode(payload)
        return ValidateContainerAdjustmentResponse.encode(answer).finish()
      },
    })
    await create(plugins)
    assert.deepEqual(judged?.owners?.owners.c1?.compound[6]?.owners, { A: '10-a' })
    assert.deepEqual(judged?.container?.env, [], 'as it was before')
    assert.deepEqual(
      judged?.plugins.map(({ name }) => name),
      ['a', 'judge'],
    )
    answer.reject = true
    await assert.rejects(create(plugins), refused(/"90-judge" rejects .* no such variable here/))
  })

  test('that go without a judgement have not agreed', async () => {
    const { joined, plugins } = node({ requestTimeoutMs: 50 })
    await joined('90-judge', { ValidateContainerAdjustment: () => new Promise(() => {}) })
    await assert.rejects(create(plugins), refused(/went away/))
    await create(plugins)
  })
})

test('with nobody there nothing is asked and nobody waits', () => {
  const { plugins } = node()
  for (const event of Object.values(Event)) assert.equal(plugins.wants(event), false)
  assert.throws(() => {
    plugins.claim({ index: '10', base: 'a' }, new Promise(() => {}))
    plugins.claim({ index: '10', base: 'a' }, new Promise(() => {}))
  }, RuntimeError)
})
