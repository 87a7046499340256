/** What a request may not ask for: each refusal names the field, and nothing is dropped silently. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ErrorKind } from '#proto/errors.ts'
import { isKind } from '#proto/errors.ts'
import { containerSpec } from './container-spec.ts'
import { type CaseRequest, specInput } from './testing/spec-case.ts'

const build = (request: CaseRequest) => containerSpec(specInput(request))

const security = (context: Record<string, unknown>): CaseRequest => ({
  container: { linux: { securityContext: { namespaceOptions: { pid: 1 }, ...context } } },
})
const resources = (limits: Record<string, unknown>): CaseRequest => ({ container: { linux: { resources: limits } } })
const mount = (fields: Record<string, unknown>): CaseRequest => ({
  container: { mounts: [{ containerPath: '/x', hostPath: '/x', ...fields }] },
})
const cgroup1 = { host: { cgroupVersion: 1 } } as const
const userns = (uids: unknown[], mode = 0): CaseRequest => ({
  sandbox: {
    linux: {
      securityContext: {
        namespaceOptions: {
          pid: 1,
          usernsOptions: { mode, uids, gids: [{ hostId: 1000, containerId: 0, length: 10 }] },
        },
      },
    },
  },
})

type Refusal = readonly [what: string, request: CaseRequest, kind: ErrorKind, names: RegExp]

const refusals: readonly Refusal[] = [
  ['no name', { container: { metadata: { name: '' } } }, 'invalid-argument', /metadata\.name/],
  ['a name with a newline', { container: { metadata: { name: 'a\nb' } } }, 'invalid-argument', /metadata\.name/],
  ['no image', { container: { image: undefined } }, 'invalid-argument', /image\.image/],
  ['a log path that leaves', { container: { logPath: '../x' } }, 'invalid-argument', /log_path/],
  ['a log path within that leaves', { container: { logPath: 'a/../../x' } }, 'invalid-argument', /log_path/],
  ['an absolute log path', { container: { logPath: '/x' } }, 'invalid-argument', /log_path/],
  ['a log path with NUL', { container: { logPath: 'a\0b' } }, 'invalid-argument', /log_path/],
  [
    'privilege in a pod without',
    { container: { linux: { securityContext: { privileged: true } } } },
    'invalid-argument',
    /privileged/,
  ],
  [
    'a CDI device without a class',
    { container: { CDIDevices: [{ name: 'v.com=d' }] } },
    'invalid-argument',
    /CDI_devices/,
  ],
  [
    'a class of cache without resctrl',
    { input: { node: { rdt: { closID: 'gold' } } } },
    'failed-precondition',
    /RDT class "gold" needs resctrl/,
  ],
  [
    'refused calls told by a runtime that cannot',
    { ...security({ seccomp: { profileType: 0 } }), input: { node: { seccompListener: '/l' } } },
    'failed-precondition',
    /SCMP_ACT_NOTIFY/,
  ],
  ['windows', { container: { windows: {} } }, 'invalid-argument', /windows/],
  ['an unknown stop signal', { container: { stopSignal: 99 } }, 'invalid-argument', /stop_signal/],

  ['nothing to run', { image: { cmd: [] } }, 'invalid-argument', /which command/],
  ['NUL in a command', { container: { command: ['a\0b'] } }, 'invalid-argument', /NUL/],
  ['a relative directory', { container: { workingDir: 'x' } }, 'invalid-argument', /working_dir/],
  ['cve-2024-21626', { container: { workingDir: '/proc/self/fd/7/..//8' } }, 'invalid-argument', /working_dir/],
  [
    'cve-2024-21626 by image',
    { image: { workingDir: '/a/../proc/12/cwd' } },
    'failed-precondition',
    /Working directory/,
  ],
  ['a nameless variable', { container: { envs: ['=x'] } }, 'invalid-argument', /envs/],
  ['NUL in a value', { container: { envs: ['A=b\0c'] } }, 'invalid-argument', /envs "A"/],
  ['endless variables', { container: { envs: [`A=${'x'.repeat(1024 * 1024)}`] } }, 'invalid-argument', /envs/],
  ['odd variables of the image', { image: { env: ['NOVALUE'] } }, 'failed-precondition', /NOVALUE/],

  [
    'an unknown capability',
    security({ capabilities: { dropCapabilities: ['NONSENSE'] } }),
    'invalid-argument',
    /drop_cap/,
  ],
  [
    'ambient and dropped',
    security({ capabilities: { addAmbientCapabilities: ['KILL'], dropCapabilities: ['KILL'] } }),
    'invalid-argument',
    /CAP_KILL/,
  ],
  [
    'a capability the host lacks',
    { ...security({ capabilities: { addCapabilities: ['SYS_TIME'] } }), host: { capabilities: ['CAP_KILL'] } },
    'failed-precondition',
    /CAP_SYS_TIME/,
  ],
  [
    'an unknown groups policy',
    security({ supplementalGroupsPolicy: 5 }),
    'invalid-argument',
    /supplemental_groups_policy/,
  ],
  [
    'an unknown namespace mode',
    security({ namespaceOptions: { network: 9 } }),
    'invalid-argument',
    /namespace_options\.network/,
  ],
  ['a target without an id', security({ namespaceOptions: { pid: 3 } }), 'invalid-argument', /target_id/],
  [
    'the network of the node alone',
    security({ namespaceOptions: { network: 2, pid: 1 } }),
    'invalid-argument',
    /network/,
  ],
  [
    'AppArmor where there is none',
    security({ apparmor: { profileType: 2, localhostRef: 'x' } }),
    'failed-precondition',
    /AppArmor/,
  ],
  ['AppArmor without a name', security({ apparmor: { profileType: 2 } }), 'invalid-argument', /apparmor/],
  [
    'a default AppArmor profile not loaded',
    { ...security({ apparmor: { profileType: 0 } }), host: { apparmorEnabled: true } },
    'failed-precondition',
    /AppArmor/,
  ],
  [
    'SELinux where it is required, and there is none',
    { ...security({ selinuxOptions: { level: 's0:c1,c2' } }), host: { selinuxRequired: true } },
    'failed-precondition',
    /selinux_options/,
  ],
  [
    'SELinux for the pod where it is required, and there is none',
    {
      sandbox: { linux: { securityContext: { namespaceOptions: { pid: 1 }, selinuxOptions: { type: 'x_t' } } } },
      host: { selinuxRequired: true },
    },
    'failed-precondition',
    /selinux_options/,
  ],
  [
    'a malformed SELinux level',
    security({ selinuxOptions: { level: 'nonsense' } }),
    'invalid-argument',
    /selinux_options\.level/,
  ],
  ['a relative masked path', security({ maskedPaths: ['proc/x'] }), 'invalid-argument', /masked_paths\[0\]/],

  ['a relative mount', mount({ containerPath: 'x' }), 'invalid-argument', /mounts\[0\]\.container_path/],
  ['a mount over the root', mount({ containerPath: '/a/..' }), 'invalid-argument', /mounts\[0\]\.container_path/],
  ['cve-2019-16884', mount({ containerPath: '/dev/../proc/./self' }), 'invalid-argument', /\/proc/],
  ['a mount from nowhere', mount({ hostPath: '' }), 'invalid-argument', /mounts\[0\]\.host_path/],
  ['an unknown propagation', mount({ propagation: 7 }), 'invalid-argument', /propagation/],
  ['bidirectional without privilege', mount({ propagation: 2 }), 'invalid-argument', /BIDIRECTIONAL/],
  [
    'a slave of a private mount',
    { ...mount({ propagation: 1 }), mountSources: [{ path: '/x', propagation: 'private' }] },
    'failed-precondition',
    /shared or slave/,
  ],
  ['recursive read-only but writable', mount({ recursiveReadOnly: true }), 'invalid-argument', /recursive_read_only/],
  [
    'recursive read-only and spreading',
    {
      ...mount({ recursiveReadOnly: true, readonly: true, propagation: 1 }),
      mountSources: [{ path: '/x', propagation: 'shared' }],
    },
    'invalid-argument',
    /recursive_read_only/,
  ],
  [
    'recursive read-only without a kernel for it',
    { ...mount({ recursiveReadOnly: true, readonly: true }), host: { recursiveReadOnlyMounts: false } },
    'rro-unsupported',
    /^RROUnsupported: /,
  ],
  [
    'mapped ids',
    mount({
      uidMappings: [{ hostId: 1, containerId: 0, length: 1 }],
      gidMappings: [{ hostId: 1, containerId: 0, length: 1 }],
    }),
    'failed-precondition',
    /mapped ids/,
  ],
  [
    'an image that nobody mounted',
    mount({ hostPath: '', image: { image: 'x' }, readonly: true }),
    'internal',
    /mounts\[0\]\.image "x" was not mounted/,
  ],
  ['a writable image', mount({ hostPath: '', image: { image: 'x' } }), 'invalid-argument', /read-only/],
  [
    'a device that is not there',
    { container: { devices: [{ hostPath: '/dev/x', permissions: 'r' }] } },
    'failed-precondition',
    /\/dev\/x/,
  ],
  [
    'device access that is no access',
    { container: { devices: [{ hostPath: '/dev/x', permissions: 'rwx' }] } },
    'invalid-argument',
    /devices\[0\]\.permissions/,
  ],

  ['a negative cpu period', resources({ cpuPeriod: -1 }), 'invalid-argument', /cpu_period/],
  ['cve-2018-20699', resources({ cpusetCpus: '0-4294967295' }), 'invalid-argument', /cpuset_cpus/],
  ['a cpu set with a newline', resources({ cpusetCpus: '0\n1' }), 'invalid-argument', /cpuset_cpus/],
  ['a backward node set', resources({ cpusetMems: '3-1' }), 'invalid-argument', /cpuset_mems/],
  [
    'less swap than memory',
    resources({ memoryLimitInBytes: 2000000, memorySwapLimitInBytes: 1000000 }),
    'invalid-argument',
    /memory_swap/,
  ],
  ['swap without a limit', resources({ memorySwapLimitInBytes: 1000000 }), 'invalid-argument', /memory_swap/],
  [
    'a limit that JSON cannot hold',
    resources({ memoryLimitInBytes: (2n ** 63n - 1n).toString() }),
    'invalid-argument',
    /memory_limit/,
  ],
  ['an oom score out of range', resources({ oomScoreAdj: 1001 }), 'invalid-argument', /oom_score_adj/],
  [
    'unified on version 1',
    { ...resources({ unified: { 'memory.high': '1' } }), ...cgroup1 },
    'failed-precondition',
    /unified/,
  ],
  ['a unified path', resources({ unified: { '../x.y': '1' } }), 'invalid-argument', /unified/],
  ['cgroup.procs', resources({ unified: { 'cgroup.procs': '1' } }), 'invalid-argument', /unified/],
  [
    'huge pages without hugetlb',
    { ...resources({ hugepageLimits: [{ pageSize: '2MB', limit: 1 }] }), host: { hugetlb: false } },
    'failed-precondition',
    /2MB/,
  ],
  [
    'a malformed page size',
    resources({ hugepageLimits: [{ pageSize: '../2MB', limit: 1 }] }),
    'invalid-argument',
    /page_size/,
  ],
  [
    'swap that nobody counts',
    { ...resources({ memoryLimitInBytes: 1000000, memorySwapLimitInBytes: 2000000 }), host: { swapAccounting: false } },
    'failed-precondition',
    /swap/,
  ],

  [
    'two mappings',
    userns([
      { hostId: 1000, containerId: 0, length: 5 },
      { hostId: 2000, containerId: 5, length: 5 },
    ]),
    'invalid-argument',
    /uids has 2/,
  ],
  ['no mapping', userns([]), 'invalid-argument', /uids has 0/],
  [
    'container id 0 not mapped',
    userns([{ hostId: 1000, containerId: 1, length: 5 }]),
    'invalid-argument',
    /container id 0/,
  ],
  ["the host's root", userns([{ hostId: 0, containerId: 0, length: 5 }]), 'invalid-argument', /host id 0/],
  ['an empty mapping', userns([{ hostId: 1000, containerId: 0, length: 0 }]), 'invalid-argument', /length 0/],
  [
    'a mapping beyond the end',
    userns([{ hostId: 4294967295, containerId: 0, length: 5 }]),
    'invalid-argument',
    /beyond/,
  ],
  ['mode CONTAINER', userns([{ hostId: 1000, containerId: 0, length: 5 }], 1), 'invalid-argument', /mode 1/],
  [
    'a user outside the mapping',
    { ...userns([{ hostId: 1000, containerId: 0, length: 5 }]), image: { user: '5' } },
    'invalid-argument',
    /User 5/,
  ],
]

for (const [what, request, kind, names] of refusals) {
  test(`refuses ${what}`, () => {
    assert.throws(
      () => build(request),
      (error) => {
        assert.ok(isKind(error, kind), String(error))
        assert.match(error.message, names)
        return true
      },
    )
  })
}

test('bytes that JSON cannot carry are refused, not replaced', () => {
  const input = specInput({})
  const envs = [{ key: 'A', value: Buffer.from([0x61, 0xff]) }]
  assert.throws(() => containerSpec({ ...input, container: { ...input.container, envs } }), /UTF-8/)
})

test('a namespace that is not the one asked for is a fault of ours', () => {
  const namespaces = { net: 'host', ipc: '/i', uts: '/u', pid: 'new' }
  assert.throws(
    () => build({ input: { namespaces } }),
    (error) => isKind(error, 'internal'),
  )
})

test('SELinux options mean nothing on a host without SELinux, unless it is required; there is a warning', () => {
  const selinuxOptions = { type: 'container_t', level: 's0:c1,c2' }
  const { spec, warnings } = build(security({ selinuxOptions }))
  assert.match(warnings.join(), /selinux_options/)
  assert.equal(spec.process.selinuxLabel, undefined)
  const securityContext = { namespaceOptions: { pid: 1 }, selinuxOptions }
  assert.match(build({ sandbox: { linux: { securityContext } } }).warnings.join(), /selinux_options/)
})

test('unconfined SELinux is kept by a host that does not confine, whatever is required, with a warning', () => {
  const host = { selinuxRequired: true }
  const { warnings } = build({ ...security({ selinuxOptions: { type: 'spc_t', level: 's0' } }), host })
  assert.match(warnings.join(), /selinux_options/)
})

test('an SELinux level that sets a container apart from nobody is no promise to be kept', () => {
  const host = { selinuxRequired: true }
  assert.deepEqual(build({ ...security({ selinuxOptions: { level: 's0' } }), host }).warnings, [])
  const selinuxOptions = { level: 's0' }
  build({ sandbox: { linux: { securityContext: { namespaceOptions: { pid: 1 }, selinuxOptions } } }, host })
})

test('who has no filter has nothing to be told of, whatever the runtime can', () => {
  const { spec } = build({ ...security({ seccomp: { profileType: 1 } }), input: { node: { seccompListener: '/l' } } })
  assert.equal(spec.linux.seccomp, undefined)
})

test('cve-2024-3154: annotations and labels of nobody else are in the spec', () => {
  const given = { 'org.systemd.property.X': 'y', 'io.kubernetes.cri.container-type': 'sandbox', bundle: '/x' }
  const { spec } = build({ container: { annotations: given, labels: given }, sandbox: { annotations: given } })
  assert.equal(spec.annotations['io.kubernetes.cri.container-type'], 'container')
  for (const key of Object.keys(spec.annotations)) assert.match(key, /^io\.(cricket|kubernetes\.cri)\./)
})
