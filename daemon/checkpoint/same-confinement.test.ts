/** A container that is restored has the rights that it had: whatever of them the request does not say as well is a refusal. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { isKind, RuntimeError } from '#proto/errors.ts'
import { type OciSpec, specText } from '../oci/spec/types.ts'
import { requireSameConfinement } from './same-confinement.ts'

const text = `{
  "ociVersion": "1.0.2",
  "root": { "path": "/a/rootfs", "readonly": false },
  "process": {
    "terminal": false,
    "user": { "uid": 7, "gid": 8, "additionalGids": [8, 9] },
    "args": ["sleep"], "env": ["A=b"], "cwd": "/",
    "capabilities": { "bounding": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"], "inheritable": [], "ambient": [] },
    "noNewPrivileges": true,
    "apparmorProfile": "cricket-default",
    "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 18446744073709551615, "hard": 18446744073709551615 }]
  },
  "mounts": [
    { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec"] },
    { "destination": "/data", "type": "bind", "source": "/host/a", "options": ["rbind", "ro"] }
  ],
  "linux": {
    "namespaces": [{ "type": "mount" }, { "type": "pid" }, { "type": "network", "path": "/run/a" }],
    "seccomp": { "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["x"], "listenerPath": "/run/a.sock", "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_ALLOW" }] },
    "maskedPaths": ["/proc/kcore", "/proc/keys"],
    "readonlyPaths": ["/proc/sys"],
    "devices": [],
    "cgroupsPath": "/a/b",
    "resources": {}
  },
  "annotations": { "a": "b" }
}`
const make = (): OciSpec => JSON.parse(text)
/** The specification with the part at `path` (names, indexes) replaced; undefined takes it away. */
function changed(path: readonly string[], value: unknown): OciSpec {
  const spec = make()
  let place: unknown = spec
  for (const name of path.slice(0, -1)) place = Reflect.get(Object(place), name)
  const last = path.at(-1) ?? ''
  if (value === undefined) Reflect.deleteProperty(Object(place), last)
  else Reflect.set(Object(place), last, value)
  return spec
}
const archived = Buffer.from(text)

test('the same confinement is accepted, whatever is another for each container', () => {
  requireSameConfinement(archived, make())
  for (const [path, value] of [
    [['root', 'path'], '/b/rootfs'],
    [['process', 'args'], ['other']],
    [['process', 'env'], []],
    [
      ['process', 'user', 'additionalGids'],
      [9, 8],
    ],
    [
      ['process', 'capabilities', 'bounding'],
      ['CAP_CHOWN', 'CAP_KILL'],
    ],
    [['mounts', '1', 'source'], '/host/b'],
    [
      ['mounts', '1', 'options'],
      ['ro', 'rbind'],
    ],
    [['linux', 'namespaces', '2', 'path'], '/run/b'],
    [['linux', 'seccomp', 'listenerPath'], '/run/b.sock'],
    [['linux', 'cgroupsPath'], '/other'],
    [['annotations'], {}],
  ] as const) {
    requireSameConfinement(archived, changed(path, value))
  }
})

test('each right that differs is a refusal by its name, in both directions', () => {
  const cases: [readonly string[], unknown, string][] = [
    [['root', 'readonly'], true, 'root.readonly'],
    [['process', 'terminal'], true, 'process.terminal'],
    [['process', 'user', 'uid'], 0, 'process.user'],
    [['process', 'user', 'gid'], 0, 'process.user'],
    [['process', 'user', 'additionalGids'], [8, 9, 0], 'process.user'],
    [['process', 'noNewPrivileges'], false, 'process.noNewPrivileges'],
    [['process', 'apparmorProfile'], undefined, 'process.apparmorProfile'],
    [['process', 'selinuxLabel'], 'system_u:system_r:spc_t:s0', 'process.selinuxLabel'],
    ...['bounding', 'effective', 'permitted', 'inheritable', 'ambient'].map(
      (set): [readonly string[], unknown, string] => [
        ['process', 'capabilities', set],
        ['CAP_SYS_ADMIN'],
        `process.capabilities.${set}`,
      ],
    ),
    [['process', 'capabilities'], undefined, 'process.capabilities.bounding'],
    [['linux', 'seccomp'], undefined, 'linux.seccomp'],
    [['linux', 'seccomp', 'defaultAction'], 'SCMP_ACT_ALLOW', 'linux.seccomp'],
    [['linux', 'seccomp', 'syscalls', '0', 'names'], ['read', 'bpf'], 'linux.seccomp'],
    [['linux', 'maskedPaths'], ['/proc/kcore'], 'linux.maskedPaths'],
    [['linux', 'readonlyPaths'], [], 'linux.readonlyPaths'],
    [['linux', 'namespaces'], [{ type: 'mount' }, { type: 'pid' }], 'linux.namespaces'],
    [['linux', 'devices'], [{ path: '/dev/mem', type: 'c', major: 1, minor: 1 }], 'linux.devices'],
    [['linux', 'uidMappings'], [{ containerID: 0, hostID: 0, size: 1 }], 'linux.uidMappings'],
    [['linux', 'rootfsPropagation'], 'shared', 'linux.rootfsPropagation'],
    [['mounts', '1', 'options'], ['rbind', 'rw'], 'mounts /data'],
    [['mounts', '0', 'source'], '/dev/sda', 'mounts /proc'],
    [['mounts', '0', 'type'], 'ext4', 'mounts /proc'],
    [['mounts', '1', 'destination'], '/etc', 'mounts /'],
    [['mounts', '2'], { destination: '/data', type: 'bind', source: '/x', options: ['rbind', 'rw'] }, 'mounts /data 2'],
  ]
  for (const [path, value, field] of cases) {
    const other = changed(path, value)
    for (const compare of [
      () => requireSameConfinement(archived, other),
      () => requireSameConfinement(Buffer.from(specText(other)), make()),
    ]) {
      assert.throws(
        compare,
        (error) => isKind(error, 'failed-precondition') && error.message.includes(`"${field}`.slice(0, -1)),
        `${path.join('.')}: ${field}`,
      )
    }
  }
})

test('whatever the archive says, it is accepted or refused with a reason', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.json(), fc.string(), fc.constant('{"root":{},"process":{"user":{"uid":1e99}},"linux":{}}')),
      (json) => {
        try {
          requireSameConfinement(Buffer.from(json), make())
          assert.fail('nothing at random confines as this')
        } catch (error) {
          assert.ok(error instanceof RuntimeError, String(error))
          assert.equal(error.kind, 'failed-precondition')
        }
      },
    ),
    { numRuns: 200 },
  )
})
