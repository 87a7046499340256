/** Which filter a request gets, and what our own filter lets through, asked of the kernel from inside a container. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { runCommand } from '#linux/run-command.ts'
import { isKind } from '#proto/errors.ts'
import { LinuxContainerSecurityContext } from '#proto/generated/api.ts'
import { localhostSeccompPath, seccomp } from './seccomp.ts'
import { defaultSeccomp, seccompArchitectures } from './seccomp-default.ts'
import { notifying } from './seccomp-notify.ts'
import { parseSeccompProfile } from './seccomp-profile.ts'
import { Bundles, RUNC } from './testing/bundle.ts'
import { plainHost } from './testing/spec-case.ts'

const GCC = '/usr/bin/gcc'
const skip = existsSync(RUNC) && existsSync(GCC) && process.getuid?.() === 0 ? false : 'host lacks runc, gcc or root'
const bundles = new Bundles()
after(() => bundles[Symbol.asyncDispose]())

const [EPERM, EFAULT, ENOSYS, EAFNOSUPPORT] = [1, 14, 38, 97]

const probe = async (securityContext: Record<string, unknown>): Promise<Map<string, number>> => {
  const program = join(bundles.directory, 'probe')
  if (!existsSync(program)) {
    const source = join(import.meta.dirname, 'testing/seccomp-probe.c')
    const { exit, stderr } = await runCommand(GCC, ['-static', '-O1', '-o', program, source])
    assert.deepEqual(exit, { how: 'exited', code: 0 }, stderr.toString())
  }
  const mount = { containerPath: '/probe', hostPath: program, readonly: true }
  const { stdout, stderr } = await bundles.run('/probe', {
    container: { mounts: [mount], linux: { securityContext: { namespaceOptions: { pid: 1 }, ...securityContext } } },
  })
  assert.match(stdout, /^getpid 0$/m, stderr)
  const lines = stdout.trim().split('\n')
  return new Map(lines.map((line) => [line.split(' ')[0] ?? '', Number(line.split(' ')[1])]))
}

test('RuntimeDefault refuses what administers the host and no more', { skip }, async () => {
  const got = await probe({ seccomp: { profileType: 0 } })
  for (const name of ['inet', 'unix', 'netlink', 'fork', 'personality-query']) assert.equal(got.get(name), 0, name)
  for (const name of ['clone-newuser', 'clone-newns-newpid', 'unshare', 'mount', 'keyctl', 'io_uring_setup', 'bpf']) {
    assert.equal(got.get(name), EPERM, name)
  }
  for (const name of ['clone3', 'unknown', 'personality-no-random']) assert.equal(got.get(name), ENOSYS, name)
})

test('RuntimeDefault has no AF_ALG and no AF_VSOCK, whatever the upper half of the argument says', {
  skip,
}, async () => {
  const got = await probe({ seccomp: { profileType: 0 } })
  for (const name of ['alg', 'vsock', 'alg-upper-bits', 'vsock-upper-bits'])
    assert.equal(got.get(name), EAFNOSUPPORT, name)
  assert.notEqual(got.get('xdp'), ENOSYS)
})

test('RuntimeDefault opens what the capabilities of the container are for', { skip }, async () => {
  const got = await probe({
    seccomp: { profileType: 0 },
    capabilities: { addCapabilities: ['SYS_ADMIN'] },
    runAsUser: { value: 0 },
  })
  for (const name of ['clone-newuser', 'clone-newns-newpid']) assert.equal(got.get(name), 0, name)
  assert.equal(got.get('mount'), EFAULT)
  assert.notEqual(got.get('clone3'), ENOSYS)
  assert.equal(got.get('keyctl'), EPERM)
})

test('without a profile nothing is filtered', { skip }, async () => {
  const got = await probe({})
  assert.equal(got.get('clone-newuser'), 0)
  assert.equal(got.get('keyctl'), 0)
})

const security = (partial: Parameters<typeof LinuxContainerSecurityContext.fromPartial>[0]) =>
  LinuxContainerSecurityContext.fromPartial(partial)

const make = (partial: Parameters<typeof LinuxContainerSecurityContext.fromPartial>[0], localhostProfile?: string) =>
  seccomp({ security: security(partial), host: plainHost, capabilities: [], localhostProfile })

test('the profile field wins over the deprecated one, and a privileged container has none', () => {
  assert.equal(make({ seccomp: { profileType: 1 }, seccompProfilePath: 'runtime/default' }), undefined)
  assert.equal(make({ seccomp: { profileType: 0 }, privileged: true }), undefined)
  assert.equal(make({}), undefined)
  assert.ok(make({ seccompProfilePath: 'docker/default' }))
})

test('a Localhost profile that cannot be had never means unconfined', () => {
  for (const localhostRef of ['', 'relative.json', '/a/../b', '/a\nb', 'localhost/']) {
    const context = security({ seccomp: { profileType: 2, localhostRef } })
    assert.throws(
      () => localhostSeccompPath(context),
      (error) => isKind(error, 'invalid-argument'),
      localhostRef,
    )
  }
  assert.throws(
    () => make({ seccompProfilePath: 'localhost/' }),
    (error) => isKind(error, 'invalid-argument'),
  )
  assert.throws(
    () => make({ seccompProfilePath: 'strange' }),
    (error) => isKind(error, 'invalid-argument'),
  )
  assert.throws(
    () => make({ seccomp: { profileType: 7 as 0 } }),
    (error) => isKind(error, 'invalid-argument'),
  )
  assert.throws(
    () => make({ seccomp: { profileType: 2, localhostRef: '/a.json' } }),
    (error) => isKind(error, 'failed-precondition'),
  )
  const blind = { ...plainHost, seccompEnabled: false }
  assert.throws(
    () => seccomp({ security: security({ seccomp: { profileType: 0 } }), host: blind, capabilities: [] }),
    (error) => isKind(error, 'failed-precondition'),
  )
})

test('a profile with a word that is not known is refused', () => {
  const facts = { architectures: ['SCMP_ARCH_X86_64'], dockerArch: 'amd64', capabilities: [] }
  const refused = [
    '',
    '[]',
    '{}',
    '{"defaultAction":"SCMP_ACT_NOTIFY"}',
    '{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x"}',
    '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"action":"SCMP_ACT_ERRNO"}]}',
    '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_ERRNO","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}',
    '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":18446744073709551615,"op":"SCMP_CMP_EQ"}]}]}',
    '{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}',
  ]
  for (const text of refused) {
    assert.throws(
      () => parseSeccompProfile(text, '"a.json"', facts),
      (error) => isKind(error, 'failed-precondition') && error.message.includes('"a.json"'),
      text,
    )
  }
})

test('every system call of the default profile is named in one rule list only', () => {
  for (const granted of [[], ['CAP_SYS_ADMIN', 'CAP_SYSLOG', 'CAP_BPF']]) {
    const { syscalls } = defaultSeccomp(seccompArchitectures('amd64') ?? [], 'amd64', granted)
    const names = syscalls.filter(({ args }) => !args).flatMap((rule) => rule.names)
    assert.deepEqual(names.toSorted(), [...new Set(names)].toSorted())
  }
})

test('a profile whose refusals are told asks about what it refuses or kills, and about nothing else', () => {
  const rule = (action: string, errnoRet?: number) => ({
    names: ['mount'],
    action: `SCMP_ACT_${action}`,
    ...(errnoRet !== undefined && { errnoRet }),
  })
  const told = [rule('ERRNO'), rule('ERRNO', EPERM), rule('KILL'), rule('KILL_THREAD'), rule('KILL_PROCESS')]
  const kept = [rule('ALLOW'), rule('LOG'), rule('TRACE', EPERM), rule('ERRNO', ENOSYS), rule('TRAP')]
  const profile = { defaultAction: 'SCMP_ACT_ERRNO', architectures: [], syscalls: [...told, ...kept] }
  assert.deepEqual(notifying(profile, '/listener'), {
    ...profile,
    listenerPath: '/listener',
    syscalls: [...told.map(() => rule('NOTIFY')), ...kept],
  })
})
