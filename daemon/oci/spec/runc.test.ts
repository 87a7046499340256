/** Specs as the real runtime understands them, seen from inside the container. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { after, test } from 'node:test'
import { Bundles, RUNC } from './testing/bundle.ts'

const skip = existsSync(RUNC) && process.getuid?.() === 0 ? false : 'host lacks runc or root'
const bundles = new Bundles()
after(() => bundles[Symbol.asyncDispose]())

const status = (text: string, field: string): string | undefined =>
  new RegExp(`^${field}:\\s*(.*)$`, 'm').exec(text)?.[1]

/** CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE. */
const DEFAULT_MASK = '00000000000005fb'

test('a plain container runs as root with the default capabilities, its paths masked and /sys read-only', {
  skip,
}, async () => {
  const script = [
    'cat /proc/self/status',
    'id',
    'env',
    'wc -c </proc/timer_list',
    'ls /sys/firmware | wc -l',
    'touch /proc/sys/kernel/hostname 2>&1; echo 1 >/proc/sys/kernel/panic; touch /sys/x',
    'cat /proc/mounts',
  ].join('; ')
  const { stdout, stderr } = await bundles.run(script, { container: { envs: ['A=1'] } })
  assert.equal(status(stdout, 'CapEff'), DEFAULT_MASK, stderr)
  assert.equal(status(stdout, 'CapBnd'), DEFAULT_MASK)
  assert.equal(status(stdout, 'CapInh'), '0000000000000000')
  assert.equal(status(stdout, 'CapAmb'), '0000000000000000')
  assert.equal(status(stdout, 'NoNewPrivs'), '0')
  assert.match(stdout, /^uid=0\(root\) gid=0\(root\)/m)
  assert.match(stdout, /^A=1$/m)
  assert.match(stdout, /^HOSTNAME=web-0$/m)
  assert.match(stdout, /^HOME=\/root$/m)
  assert.match(stdout, /^0\n0$/m, 'masked file and directory are empty')
  assert.match(stderr, /Read-only file system/)
  assert.match(stdout, /^proc \/proc proc rw,nosuid,nodev,noexec/m)
  assert.match(stdout, /^sysfs \/sys sysfs ro,nosuid,nodev,noexec/m)
  assert.match(stdout, /^tmpfs \/proc\/acpi|^tmpfs \/proc\/scsi|^tmpfs \/proc\/kcore/m)
})

test('a non-root user has its groups, no effective capabilities and cannot gain any', { skip }, async () => {
  const security = {
    namespaceOptions: { pid: 1 },
    runAsUser: { value: 1000 },
    runAsGroup: { value: 3000 },
    supplementalGroups: [2000],
    noNewPrivs: true,
    readonlyRootfs: true,
    capabilities: { dropCapabilities: ['ALL'], addCapabilities: ['CHOWN'] },
  }
  const { stdout, stderr } = await bundles.run('cat /proc/self/status; id; pwd; touch /tmp/x', {
    container: { linux: { securityContext: security }, workingDir: '/made/by/runtime' },
  })
  assert.equal(status(stdout, 'CapEff'), '0000000000000000', stderr)
  assert.equal(status(stdout, 'CapBnd'), '0000000000000001')
  assert.equal(status(stdout, 'NoNewPrivs'), '1')
  assert.match(stdout, /uid=1000\(app\) gid=3000 groups=29\(audio\),2000,3000/)
  assert.match(stdout, /^\/made\/by\/runtime$/m)
  assert.match(stderr, /Read-only file system/)
})

test('an ambient capability reaches a non-root process', { skip }, async () => {
  const securityContext = {
    namespaceOptions: { pid: 1 },
    runAsUser: { value: 1000 },
    capabilities: { dropCapabilities: ['ALL'], addAmbientCapabilities: ['NET_BIND_SERVICE'] },
  }
  const { stdout, stderr } = await bundles.run('cat /proc/self/status', { container: { linux: { securityContext } } })
  assert.equal(status(stdout, 'CapEff'), '0000000000000400', stderr)
})

test('a privileged container has every capability that the host can give and no masked paths', { skip }, async () => {
  const { stdout, stderr } = await bundles.run('cat /proc/self/status; cat /proc/mounts; touch /sys/kernel/x', {
    sandbox: { linux: { securityContext: { privileged: true } } },
    container: { linux: { securityContext: { privileged: true, namespaceOptions: { pid: 1 } } } },
    input: {
      hostDevices: [{ path: '/dev/fuse', type: 'c', major: 10, minor: 229, mode: 0o666, uid: 0, gid: 0 }],
      namespaces: { net: 'new', ipc: 'new', uts: 'new', pid: 'new' },
    },
  })
  const mask = BigInt(`0x${status(stdout, 'CapEff')}`)
  const given = mask.toString(2).replaceAll('0', '').length
  assert.equal(given, bundles.host.capabilities.length, stderr)
  assert.doesNotMatch(stdout, /\/proc\/(kcore|sys) /)
  assert.match(stdout, /^sysfs \/sys sysfs rw/m)
})

test('requested mounts win over the defaults, and only the read-only ones refuse writing', { skip }, async () => {
  const { stdout, stderr } = await bundles.run('echo new >/rw/x && cat /host/x; touch /host/y; cat /proc/mounts', {
    container: {
      mounts: [
        { containerPath: '/host', hostPath: bundles.directory, readonly: true },
        { containerPath: '/rw', hostPath: bundles.directory },
        { containerPath: '/dev/shm', hostPath: bundles.directory, readonly: true },
      ],
    },
  })
  assert.match(stdout, /^new$/m, stderr)
  assert.match(stderr, /\/host\/y: Read-only/)
  assert.equal(stdout.match(/ \/dev\/shm /g)?.length, 1)
})

test('memory and cpu limits reach the cgroup, and the oom score is what the host allows', { skip }, async (t) => {
  if (bundles.host.cgroupVersion === 2) return t.skip('host lacks cgroup v1')
  const resources = { memoryLimitInBytes: 33554432n, cpuShares: 100, oomScoreAdj: 500 }
  const script =
    'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.shares /proc/self/oom_score_adj'
  const { stdout, stderr } = await bundles.run(script, { container: { linux: { resources } } })
  assert.deepEqual(stdout.trim().split('\n'), ['33554432', '100', '500'], stderr)
})

test('devices outside the standard set cannot be opened', { skip }, async () => {
  const script =
    'cat /dev/null; for n in null zero full random urandom tty; do test -c /dev/$n && echo $n; done; ls /dev'
  const { stdout } = await bundles.run(script)
  assert.match(stdout, /^null\nzero\nfull\nrandom\nurandom\ntty$/m)
  assert.doesNotMatch(stdout, /fuse|mem|vda/)
})
