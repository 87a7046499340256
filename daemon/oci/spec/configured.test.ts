/** What the configuration and the image add to a container: limits, account files, volumes, mounts, devices. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { accountFiles } from './account-files.ts'
import { parseConfiguredMount } from './configured-mounts.ts'
import { containerSpec } from './container-spec.ts'
import { parseConfiguredDevice } from './devices.ts'
import { declaredVolumes } from './image-volumes.ts'
import { clampRlimits, hardLimits, parseRlimit } from './rlimits.ts'
import { type CaseRequest, specInput } from './testing/spec-case.ts'
import { specText } from './types.ts'

const build = (request: CaseRequest) => containerSpec(specInput(request))
const failed = (error: unknown) => isKind(error, 'failed-precondition')
const invalid = (error: unknown) => isKind(error, 'invalid-argument')

test('parseRlimit() knows names, pairs and "unlimited"', () => {
  assert.deepEqual(parseRlimit('nofile=1024:4096'), { type: 'RLIMIT_NOFILE', soft: 1024, hard: 4096 })
  assert.deepEqual(parseRlimit('core=0'), { type: 'RLIMIT_CORE', soft: 0, hard: 0 })
  const unlimited = Number.POSITIVE_INFINITY
  assert.deepEqual(parseRlimit('memlock=unlimited'), { type: 'RLIMIT_MEMLOCK', soft: unlimited, hard: unlimited })
  for (const text of ['', 'nofile', 'nofile=', 'files=1', 'nofile=2:1', 'nofile=-1', 'nofile=1:2:3', 'NOFILE=1']) {
    assert.equal(parseRlimit(text), undefined, text)
  }
})

test('an unlimited limit is 2^64 - 1 in the text of config.json', () => {
  const rlimits = [{ type: 'RLIMIT_MEMLOCK', soft: 5, hard: Number.POSITIVE_INFINITY }]
  const { spec } = build({ input: { rlimits } })
  assert.match(specText(spec), /"rlimits":\[\{"type":"RLIMIT_MEMLOCK","soft":5,"hard":18446744073709551615\}\]/)
})

test('without CAP_SYS_RESOURCE limits stop at those of the daemon', () => {
  const text =
    'Limit    Soft Limit   Hard Limit   Units\nMax open files   1024   4096   files\nMax locked memory   8   unlimited   bytes\n'
  const ceilings = hardLimits(text)
  assert.deepEqual(ceilings, { RLIMIT_NOFILE: 4096, RLIMIT_MEMLOCK: Number.POSITIVE_INFINITY })
  const wanted = ['nofile=8192', 'memlock=unlimited', 'core=0'].map(parseRlimit).filter((limit) => limit !== undefined)
  const rlimits = clampRlimits(wanted, ceilings)
  assert.deepEqual(rlimits[0], { type: 'RLIMIT_NOFILE', soft: 4096, hard: 4096 })
  assert.deepEqual(rlimits.slice(1), wanted.slice(1))
  assert.deepEqual(clampRlimits(wanted, undefined), wanted)
})

const passwd = 'root:x:0:0:root:/root:/bin/sh\n'
const files = { passwd, group: 'root:x:0:' }

test('a user that the image does not know gets one line of seven fields', () => {
  const made = accountFiles({ files, uid: 1000, gid: 3000, home: '/home/me', homeIsRequested: false })
  assert.equal(made.passwd, `${passwd}1000:x:1000:3000:container user:/home/me:/sbin/nologin\n`)
  assert.equal(made.group, 'root:x:0:\n3000:x:3000:\n')
  assert.deepEqual(accountFiles({ files, uid: 0, gid: 0, home: '/', homeIsRequested: false }), {})
  const none = accountFiles({ files: {}, uid: 1000, gid: 3000, home: '/\n', homeIsRequested: true })
  assert.deepEqual(none, {})
})

test('a HOME that would break out of its field is refused (CVE-2022-4318, CVE-2026-15809)', () => {
  for (const home of ['/root\nevil::0:0::/:/bin/sh', '/x:/bin/sh', '/x\r', '/x\u2028', '/x\0']) {
    const input = { files, uid: 1000, gid: 0, home }
    assert.throws(() => accountFiles({ ...input, homeIsRequested: true }), invalid, JSON.stringify(home))
    assert.throws(() => accountFiles({ ...input, homeIsRequested: false }), failed, JSON.stringify(home))
  }
})

test('generated account files are mounted, unless the request mounts there itself', () => {
  const input = { accountFilePaths: { passwd: '/c/passwd', group: '/c/group' }, rootfs: { path: '/r', ...files } }
  const linux = { securityContext: { namespaceOptions: { pid: 1 }, runAsUser: { value: 1000n } } }
  const sources = ({ spec }: ReturnType<typeof build>) =>
    spec.mounts.filter(({ destination }) => destination.startsWith('/etc/passwd')).map(({ source }) => source)
  const plain = build({ container: { linux }, input })
  assert.deepEqual(sources(plain), ['/c/passwd'])
  assert.match(plain.accountFiles.passwd ?? '', /^1000:x:1000:0:container user:\/:\/sbin\/nologin$/m)
  assert.equal(plain.accountFiles.group, undefined)
  const own = build({ container: { linux, mounts: [{ containerPath: '/etc/passwd', hostPath: '/mine' }] }, input })
  assert.deepEqual(sources(own), ['/mine'])
})

test('volumes of an image are tidy paths, none of them where the runtime mounts', () => {
  assert.deepEqual(declaredVolumes(['/data/', 'relative', '/a//b', '/data', '/mine'], ['/mine/']), [
    '/data',
    '/relative',
    '/a/b',
  ])
  const bad = ['/', '', '.', '/../../etc', '/a/..', '/proc', '//proc/self', '/proc/.', '/sys/fs/cgroup', '/dev', '/x\n']
  for (const path of bad) assert.throws(() => declaredVolumes([path], []), failed, path)
  const many = Array.from({ length: 101 }, (_, index) => `/v${index}`)
  assert.throws(() => declaredVolumes(many, []), failed)
})

test('configured mounts and devices are read as they are written', () => {
  assert.deepEqual(parseConfiguredMount('/a:/b:ro'), { source: '/a', destination: '/b', readonly: true })
  assert.deepEqual(parseConfiguredMount('/a:/b'), { source: '/a', destination: '/b', readonly: false })
  for (const text of ['/a', 'a:/b', '/a:b', '/a:/', '/a:/b:rx', '/a:/b:ro:x'])
    assert.equal(parseConfiguredMount(text), undefined, text)
  assert.deepEqual(parseConfiguredDevice('/dev/fuse'), {
    hostPath: '/dev/fuse',
    containerPath: '/dev/fuse',
    permissions: 'rwm',
  })
  assert.deepEqual(parseConfiguredDevice('/dev/a:/dev/b:r'), {
    hostPath: '/dev/a',
    containerPath: '/dev/b',
    permissions: 'r',
  })
  assert.deepEqual(parseConfiguredDevice('/dev/a:r'), { hostPath: '/dev/a', containerPath: '/dev/a', permissions: 'r' })
  for (const text of ['', 'dev', '/dev/a:x', '/dev/a:/b:rwx'])
    assert.equal(parseConfiguredDevice(text), undefined, text)
})

test('configured seccomp profiles stand in for RuntimeDefault and for none', () => {
  const profile = { path: '/p.json', text: '{"defaultAction":"SCMP_ACT_LOG"}' }
  const security = (rest: object) => ({ linux: { securityContext: { namespaceOptions: { pid: 1 }, ...rest } } })
  const runtimeDefault = build({
    container: security({ seccomp: { profileType: 0 } }),
    input: { defaultSeccomp: profile },
  })
  assert.equal(runtimeDefault.spec.linux.seccomp?.defaultAction, 'SCMP_ACT_LOG')
  const unconfined = build({ container: security({ seccomp: { profileType: 1 } }), input: { defaultSeccomp: profile } })
  assert.equal(unconfined.spec.linux.seccomp, undefined)
  const privileged = {
    container: security({ privileged: true }),
    sandbox: security({ privileged: true }),
    input: { hostDevices: [], privilegedSeccomp: profile },
  }
  assert.equal(build(privileged).spec.linux.seccomp?.defaultAction, 'SCMP_ACT_LOG')
  const broken = { ...privileged, input: { hostDevices: [], privilegedSeccomp: { path: '/p.json', text: '{' } } }
  assert.throws(() => build(broken), failed)
})

test('a privileged container may be denied the host devices, and devices may belong to the user', () => {
  const security = { linux: { securityContext: { namespaceOptions: { pid: 1 }, privileged: true } } }
  const device = { path: '/dev/x', type: 'c', major: 1, minor: 2, mode: 0o600, uid: 0, gid: 0 } as const
  const input = { hostDevices: [device], privilegedDevices: false }
  const { spec } = build({ container: security, sandbox: security, input })
  assert.deepEqual(spec.linux.devices, [])
  assert.deepEqual(spec.linux.resources.devices?.[0], { allow: false, access: 'rwm' })
  const owned = build({
    container: {
      devices: [{ hostPath: '/dev/x', containerPath: '/dev/x', permissions: 'rw' }],
      linux: { securityContext: { namespaceOptions: { pid: 1 }, runAsUser: { value: 7n }, runAsGroup: { value: 8n } } },
    },
    input: { deviceOwnership: true, devices: [{ device, containerPath: '/dev/x', access: 'rw' }] },
  })
  assert.deepEqual([owned.spec.linux.devices[0]?.uid, owned.spec.linux.devices[0]?.gid], [7, 8])
})
