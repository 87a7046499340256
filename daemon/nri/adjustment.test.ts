/** What several plugins adjust, put together and put into the spec. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import {
  type Container,
  ContainerAdjustment,
  ContainerUpdate,
  type DeepPartial,
  LinuxResources,
  Container as Message,
} from '#proto/generated/nri.ts'
import { noResources } from '../oci/resources-record.ts'
import type { SpecHost } from '../oci/spec/host.ts'
import { type OciSpec, specText } from '../oci/spec/types.ts'
import { type AdjustContext, applyAdjustment } from './apply-adjustment.ts'
import { UpdateRound } from './ask-update.ts'
import { AdjustmentMerge } from './merge-adjustment.ts'
import { UpdateMerge } from './merge-updates.ts'
import { Owners } from './owners.ts'

type Wanted = DeepPartial<ContainerAdjustment>

const container = (): Container =>
  Message.create({
    id: 'c1',
    annotations: { kept: '1', dropped: '1' },
    env: ['PATH=/bin', 'OLD=1'],
    args: ['sleep'],
    mounts: [{ destination: '/data', type: 'bind', source: '/src', options: ['ro'] }],
    linux: { devices: [{ path: '/dev/null' }], namespaces: [{ type: 'pid', path: '' }] },
  })

/** Each adjustment by a plugin of its own: 00-a, 01-b and so on. */
function merged(...wanted: Wanted[]): AdjustmentMerge {
  const merge = new AdjustmentMerge(container(), new Owners())
  for (const [index, each] of wanted.entries()) merge.add(ContainerAdjustment.create(each), `0${index}-${'abc'[index]}`)
  return merge
}

const conflict = (what: RegExp) => (error: unknown) => isKind(error, 'failed-precondition') && what.test(error.message)

describe('adjustments of several plugins', () => {
  test('are seen by the next one', () => {
    const { container: seen, adjustment } = merged(
      {
        annotations: { added: '2', '-dropped': '' },
        env: [{ key: 'NEW', value: '1' }, { key: '-OLD' }],
        mounts: [{ destination: '/more', source: '/m', type: 'bind' }, { destination: '-/data' }],
        args: ['sh'],
        linux: {
          devices: [{ path: '/dev/x', type: 'c' }],
          namespaces: [{ type: '-pid' }],
          resources: { cpu: { cpus: '0' } },
        },
      },
      {
        env: [{ key: 'OTHER', value: '2' }],
        linux: { resources: { cpu: { mems: '1' }, memory: { limit: { value: 5n } } } },
      },
    )
    assert.deepEqual(seen.annotations, { kept: '1', added: '2' })
    assert.deepEqual(seen.env, ['PATH=/bin', 'NEW=1', 'OTHER=2'])
    assert.deepEqual(
      seen.mounts.map(({ destination }) => destination),
      ['/more'],
    )
    assert.deepEqual(seen.args, ['sh'])
    assert.deepEqual(
      seen.linux?.devices.map(({ path }) => path),
      ['/dev/null', '/dev/x'],
    )
    assert.deepEqual(seen.linux?.namespaces, [])
    assert.equal(seen.linux?.resources?.cpu?.cpus, '0')
    assert.deepEqual(adjustment.linux?.resources?.memory?.limit, { value: 5n })
    assert.deepEqual(adjustment.env, [
      { key: '-OLD', value: '' },
      { key: 'NEW', value: '1' },
      { key: 'OTHER', value: '2' },
    ])
  })

  const conflicts: Record<string, [Wanted, RegExp]> = {
    annotation: [{ annotations: { a: '1' } }, /Annotations "a"/],
    mount: [{ mounts: [{ destination: '/x' }] }, /Mounts "\/x"/],
    variable: [{ env: [{ key: 'A', value: '1' }] }, /Env "A"/],
    command: [{ args: ['a'] }, /Args/],
    device: [{ linux: { devices: [{ path: '/dev/x' }] } }, /Devices "\/dev\/x"/],
    'CDI device': [{ cdiDevices: [{ name: 'v.com/c=d' }] }, /CdiDevices "v.com\/c=d"/],
    rlimit: [{ rlimits: [{ type: 'RLIMIT_NOFILE' }] }, /Rlimits "RLIMIT_NOFILE"/],
    'memory limit': [{ linux: { resources: { memory: { limit: { value: 1n } } } } }, /MemLimit/],
    processors: [{ linux: { resources: { cpu: { cpus: '0' } } } }, /CPUSetCPUs/],
    'unified file': [{ linux: { resources: { unified: { 'memory.high': '1' } } } }, /CgroupsUnified "memory.high"/],
    'huge pages': [{ linux: { resources: { hugepageLimits: [{ pageSize: '2MB' }] } } }, /HugepageLimits "2MB"/],
    'limit of processes': [{ linux: { resources: { pids: { limit: 1n } } } }, /PidsLimit/],
    'cgroups path': [{ linux: { cgroupsPath: '/a' } }, /CgroupsPath/],
    'oom score': [{ linux: { oomScoreAdj: { value: 1n } } }, /OomScoreAdj/],
    'I/O priority': [{ linux: { ioPriority: { class: 1 } } }, /IoPriority/],
    seccomp: [{ linux: { seccompPolicy: {} } }, /SeccompPolicy/],
    namespace: [{ linux: { namespaces: [{ type: 'network' }] } }, /Namespace "network"/],
    sysctl: [{ linux: { sysctl: { 'net.a': '1' } } }, /Sysctl "net.a"/],
    'network device': [{ linux: { netDevices: { eth1: { name: 'e' } } } }, /LinuxNetDevices "eth1"/],
    scheduler: [{ linux: { scheduler: { policy: 2 } } }, /LinuxSched/],
    rdt: [{ linux: { rdt: { closId: { value: 'a' } } } }, /RdtClosID/],
    'memory policy': [{ linux: { memoryPolicy: { mode: 2 } } }, /MemoryPolicy/],
  }
  for (const [what, [wanted, message]] of Object.entries(conflicts)) {
    test(`to the same ${what} contradict each other`, () => {
      assert.doesNotThrow(() => merged(wanted))
      assert.throws(() => merged(wanted, wanted), conflict(message))
    })
  }

  test('replace what another has set when they say that they remove it, and only then', () => {
    const { adjustment } = merged(
      {
        env: [{ key: 'A', value: '1' }],
        annotations: { a: '1' },
        args: ['x'],
        linux: { rdt: { closId: { value: 'x' } } },
      },
      {
        env: [{ key: '-A' }, { key: 'A', value: '2' }],
        annotations: { a: '2', '-a': '' },
        args: ['', 'y', 'z'],
        linux: { rdt: { remove: true, closId: { value: 'y' } } },
      },
    )
    assert.deepEqual(adjustment.env, [{ key: 'A', value: '2' }])
    assert.equal(adjustment.annotations.a, '2')
    assert.deepEqual(adjustment.args, ['y', 'z'])
    assert.equal(adjustment.linux?.rdt?.closId?.value, 'y')
  })

  test('add hooks without end, and their owners are known together', () => {
    const hook: Wanted = { hooks: { poststop: [{ path: '/h' }] } }
    const { adjustment, owners } = merged(hook, hook)
    assert.equal(adjustment.hooks?.poststop.length, 2)
    assert.deepEqual(owners.toMessage().owners.c1?.simple, { 3: '00-a,01-b' })
  })
})

describe('updates of other containers', () => {
  const update = (containerId: string, value: bigint, ignoreFailure = false) =>
    ContainerUpdate.create({ containerId, linux: { resources: { cpu: { shares: { value } } } }, ignoreFailure })

  test('are one for each container', () => {
    const merge = new UpdateMerge(new Owners(), 'new')
    merge.add([update('a', 1n)], '00-a')
    merge.add(
      [ContainerUpdate.create({ containerId: 'a', linux: { resources: { cpu: { cpus: '3' } } } }), update('b', 2n)],
      '01-b',
    )
    assert.deepEqual(
      merge.updates.map(({ containerId, linux }) => [containerId, linux?.resources?.cpu?.cpus]),
      [
        ['a', '3'],
        ['b', ''],
      ],
    )
  })

  test('contradict each other, unless the later one does not mind', () => {
    const merge = new UpdateMerge(new Owners(), 'new')
    merge.add([update('a', 1n)], '00-a')
    assert.throws(() => merge.add([update('a', 2n)], '01-b'), conflict(/CPUShares of container "a"/))
    merge.add([update('a', 3n, true)], '02-c')
    assert.equal(merge.updates[0]?.linux?.resources?.cpu?.shares?.value, 1n)
  })

  test('cannot be of the container that is being created', () => {
    const merge = new UpdateMerge(new Owners(), 'new')
    assert.throws(() => merge.add([update('new', 1n, true)], '00-a'), conflict(/while it is being created/))
  })

  test('of the container that the kubelet updates begin with what the kubelet asked for', () => {
    const asked = { ...noResources(), cpuShares: 10n, memoryLimitInBytes: 100n }
    const round = new UpdateRound('a', asked)
    assert.deepEqual(round.limits.change, asked)
    assert.deepEqual(round.updates, [])
  })
})

const HOST: SpecHost = {
  arch: 'amd64',
  cgroupVersion: 2,
  cpus: 4,
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
}

const SPEC: OciSpec = {
  ociVersion: '1.0.2',
  root: { path: '/r', readonly: false },
  process: {
    terminal: false,
    user: { uid: 0, gid: 0, additionalGids: [] },
    args: ['sleep'],
    env: ['PATH=/bin', 'OLD=1'],
    cwd: '/',
    capabilities: { bounding: [], effective: [], permitted: [], inheritable: [], ambient: [] },
    noNewPrivileges: false,
    oomScoreAdj: 0,
    rlimits: [{ type: 'RLIMIT_NOFILE', soft: 1, hard: 2 }],
  },
  mounts: [
    { destination: '/proc', type: 'proc', source: 'proc', options: [] },
    { destination: '/data/deep', type: 'bind', source: '/src', options: ['ro'] },
  ],
  annotations: { kept: '1', dropped: '1' },
  linux: {
    namespaces: [{ type: 'pid' }, { type: 'network', path: '/ns/net' }],
    devices: [{ path: '/dev/null', type: 'c', major: 1, minor: 3 }],
    cgroupsPath: '/pods/c1',
    resources: { devices: [{ allow: false, access: 'rwm' }], cpu: { shares: 10 }, memory: { limit: 100, swap: 100 } },
    maskedPaths: [],
    readonlyPaths: [],
  },
}

const CONTEXT: AdjustContext = {
  host: HOST,
  requested: { ...noResources(), cpuShares: 10n, memoryLimitInBytes: 100n, memorySwapLimitInBytes: 100n },
  withCdi: (spec, names) => ({ ...spec, annotations: { ...spec.annotations, cdi: names.join() } }),
  blockIo: (name) => (name === '' ? undefined : { weight: 100 }),
  rdt: (name) => (name === '' ? undefined : { closID: name }),
}

const applied = (wanted: Wanted, context: Partial<AdjustContext> = {}) =>
  applyAdjustment(SPEC, ContainerAdjustment.create(wanted), { ...CONTEXT, ...context })

describe('an adjustment in the spec', () => {
  test('of nothing changes nothing', () => {
    assert.deepEqual(applied({}).spec, SPEC)
    assert.deepEqual(applied({ linux: { resources: {} } }).spec, SPEC)
  })

  test('changes what is asked for', () => {
    const { spec } = applied({
      annotations: { added: '2', '-dropped': '' },
      env: [{ key: 'PATH', value: '/sbin' }, { key: '-OLD' }, { key: 'NEW', value: 'a=b' }],
      args: ['sh', '-c'],
      mounts: [
        { destination: '-/data/deep' },
        { destination: '/x', type: 'tmpfs', source: 'tmpfs', options: ['ro', 'rslave'] },
      ],
      hooks: { createRuntime: [{ path: '/h', args: ['h', 'a'], timeout: { value: 5n } }] },
      rlimits: [{ type: 'RLIMIT_NOFILE', soft: 5n, hard: 2n ** 64n - 1n }],
      cdiDevices: [{ name: 'v.com/c=d' }],
      linux: {
        devices: [
          { path: '/dev/x', type: 'b', major: 8n, minor: 1n, fileMode: { value: 0o100660 }, uid: { value: 7 } },
        ],
        namespaces: [{ type: '-pid' }, { type: 'network', path: '/other' }],
        sysctl: { 'net.ipv4.x': '1' },
        oomScoreAdj: { value: 200n },
        ioPriority: { class: 2, priority: 3 },
        scheduler: { policy: 2, priority: 9, flags: [0] },
        seccompPolicy: {
          defaultAction: 'SCMP_ACT_ERRNO',
          syscalls: [
            {
              names: ['read'],
              action: 'SCMP_ACT_ALLOW',
              args: [{ index: 0, value: 2n ** 64n - 1n, op: 'SCMP_CMP_EQ' }],
            },
          ],
        },
        netDevices: { eth1: { name: 'inside' } },
        memoryPolicy: { mode: 2, nodes: '0', flags: [0] },
        rdt: { closId: { value: 'gold' }, enableMonitoring: { value: true } },
        cgroupsPath: '/other/c1',
      },
    })
    assert.deepEqual(spec.annotations, { kept: '1', added: '2', cdi: 'v.com/c=d' })
    assert.deepEqual(spec.process.env, ['PATH=/sbin', 'NEW=a=b'])
    assert.deepEqual(spec.process.args, ['sh', '-c'])
    assert.deepEqual(
      spec.mounts.map(({ destination }) => destination),
      ['/proc', '/x'],
    )
    assert.equal(spec.linux.rootfsPropagation, 'rslave')
    assert.deepEqual(spec.hooks, { createRuntime: [{ path: '/h', args: ['h', 'a'], timeout: 5 }] })
    assert.deepEqual(spec.process.rlimits, [{ type: 'RLIMIT_NOFILE', soft: 5, hard: Infinity }])
    assert.deepEqual(spec.linux.devices[1], { path: '/dev/x', type: 'b', major: 8, minor: 1, fileMode: 0o660, uid: 7 })
    assert.deepEqual(spec.linux.resources.devices?.[1], { allow: true, type: 'b', major: 8, minor: 1, access: 'rwm' })
    assert.deepEqual(spec.linux.namespaces, [{ type: 'network', path: '/other' }])
    assert.deepEqual(spec.linux.sysctl, { 'net.ipv4.x': '1' })
    assert.equal(spec.process.oomScoreAdj, 200)
    assert.deepEqual(spec.process.ioPriority, { class: 'IOPRIO_CLASS_BE', priority: 3 })
    assert.equal(spec.process.scheduler?.policy, 'SCHED_FIFO')
    assert.deepEqual(spec.linux.netDevices, { eth1: { name: 'inside' } })
    assert.deepEqual(spec.linux.memoryPolicy, { mode: 'MPOL_BIND', nodes: '0', flags: ['MPOL_F_STATIC_NODES'] })
    assert.deepEqual(spec.linux.intelRdt, { closID: 'gold', enableMonitoring: true })
    assert.equal(spec.linux.cgroupsPath, '/other/c1')
    assert.match(specText(spec), /"value":18446744073709551615/)
  })

  test('of limits is checked, recorded and laid over what is there', () => {
    const { spec, resources } = applied({
      linux: {
        resources: {
          cpu: { shares: { value: 512n }, cpus: '0-1', realtimePeriod: { value: 1000n } },
          memory: { limit: { value: 200n }, reservation: { value: 50n }, swappiness: { value: 10n } },
          unified: { 'memory.high': '150' },
          pids: { limit: 33n },
          blockioClass: { value: 'slow' },
          rdtClass: { value: 'gold' },
        },
      },
    })
    assert.deepEqual(spec.linux.resources, {
      devices: [{ allow: false, access: 'rwm' }],
      cpu: { shares: 512, cpus: '0-1', realtimePeriod: 1000 },
      memory: { limit: 200, swap: 200, reservation: 50, swappiness: 10 },
      unified: { 'memory.high': '150' },
      pids: { limit: 33 },
      blockIO: { weight: 100 },
    })
    assert.deepEqual(spec.linux.intelRdt, { closID: 'gold' })
    assert.equal(resources?.memoryLimitInBytes, 200n)
    assert.equal(resources?.memorySwapLimitInBytes, 200n, 'no swap before, no swap now')
    assert.equal(resources?.cpuShares, 512n)
  })

  const impossible: Record<string, Wanted> = {
    'a mount on the root': { mounts: [{ destination: '/' }] },
    'a mount on a relative path': { mounts: [{ destination: 'x' }] },
    'a hook on a relative path': { hooks: { prestart: [{ path: 'x' }] } },
    'a variable without a name': { env: [{ key: '', value: 'x' }] },
    'a variable with a false name': { env: [{ key: 'A=B', value: 'x' }] },
    'a namespace that there is not': { linux: { namespaces: [{ type: 'moon' }] } },
    'a device of no type': { linux: { devices: [{ path: '/dev/x', type: 'p' }] } },
    'a device with a false number': { linux: { devices: [{ path: '/dev/x', type: 'c', major: -1n }] } },
    'a rule of no access': { linux: { resources: { devices: [{ access: 'z' }] } } },
    'a scheduler that there is not': { linux: { scheduler: { policy: -1 } } },
    'processors that are no list': { linux: { resources: { cpu: { cpus: 'all' } } } },
    'a negative limit': { linux: { resources: { memory: { limit: { value: -5n } } } } },
    'a file outside of the controllers': { linux: { resources: { unified: { 'cgroup.procs': '1' } } } },
    'an oom score out of range': { linux: { oomScoreAdj: { value: 2000n } } },
  }
  for (const [what, wanted] of Object.entries(impossible)) {
    test(`that has ${what} is refused`, () => {
      assert.throws(
        () => applied(wanted),
        (error) => isKind(error, 'invalid-argument') || isKind(error, 'failed-precondition'),
      )
    })
  }

  test('of limits in words of plugins goes round', () => {
    assert.deepEqual(
      LinuxResources.decode(LinuxResources.encode(LinuxResources.create({})).finish()),
      LinuxResources.create({}),
    )
  })
})
