/**
 * Our RuntimeDefault seccomp profile beside the public one of Docker and containerd, system call by system call, for every
 * capability. What differs is printed, and must be among the differences that are explained here and in docs/security.md.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { defaultSeccomp, seccompArchitectures } from './seccomp-default.ts'
import { PUBLIC_ALLOWED, PUBLIC_ALLOWED_ON, PUBLIC_WITH_CAPABILITY } from './testing/public-seccomp.ts'
import type { OciSeccomp, OciSyscallArgument } from './types.ts'

const EPERM = 1
const ARCHES = ['amd64', 'arm64'] as const
const CAPABILITIES = Object.keys(PUBLIC_WITH_CAPABILITY)

/** Decided by their arguments; compared below. */
const BY_ARGUMENT = new Set(['socket', 'personality', 'clone'])

/** Why ours lets more through, by system call. */
const WIDER: Readonly<Record<string, string>> = {
  'file_getattr file_setattr': 'newer than the public list; what ioctl(FS_IOC_FSGETXATTR) has always done',
  'lsm_get_self_attr lsm_list_modules': 'tell what /proc/self/attr and /sys/kernel/security tell anyway',
  open_tree_attr: 'newer than the public list; with CAP_SYS_ADMIN, as open_tree is',
  'migrate_pages move_pages': 'with CAP_SYS_NICE, which the kernel asks for as well',
  'nice oldfstat oldlstat oldolduname oldstat olduname readdir sgetmask sigaction signal sigpending sigsuspend ssetmask':
    'old names, for 32-bit programs, of calls that are allowed',
  'arm_sync_file_range sync_file_range2': 'other names of sync_file_range, by architecture',
  'arch_prctl modify_ldt': 'exist on x86 only, where the public list allows them too',
  get_tls: 'beside set_tls, for 32-bit ARM programs',
}

/** Why ours lets less through. */
const NARROWER: Readonly<Record<string, string>> = {
  riscv_hwprobe: 'of an architecture that we are not built for',
}

const isAllowed = (profile: OciSeccomp): Set<string> =>
  new Set(profile.syscalls.flatMap(({ action, args, names }) => (action === 'SCMP_ACT_ALLOW' && !args ? names : [])))

const publicly = (arch: string, granted: readonly string[]): Set<string> =>
  new Set([
    ...PUBLIC_ALLOWED,
    ...(PUBLIC_ALLOWED_ON[arch] ?? []),
    ...granted.flatMap((name) => PUBLIC_WITH_CAPABILITY[name] ?? []),
  ])

const ours = (arch: string, granted: readonly string[]): OciSeccomp =>
  defaultSeccomp(seccompArchitectures(arch) ?? [], arch, granted)

const without = (names: Iterable<string>, others: Iterable<string>): string[] => {
  const taken = new Set(others)
  return [...names].filter((name) => !taken.has(name))
}

/** Names, each once, over every architecture and capability. */
const differences = (side: 'wider' | 'narrower'): Set<string> => {
  const found = new Set<string>()
  for (const arch of ARCHES) {
    for (const granted of [[], ...CAPABILITIES.map((name) => [name]), CAPABILITIES]) {
      const [own, other] = [isAllowed(ours(arch, granted)), publicly(arch, granted)]
      const [more, less] = side === 'wider' ? [own, other] : [other, own]
      for (const name of without(more, less)) if (!BY_ARGUMENT.has(name)) found.add(name)
    }
  }
  return found
}

const namesOf = (table: Readonly<Record<string, string>>): string[] =>
  Object.keys(table).flatMap((key) => key.split(' '))

test('it differs from the public profile only where that is explained', (t) => {
  const page = readFileSync(join(import.meta.dirname, '../../../docs/security.md'), 'utf8')
  for (const [side, table] of [
    ['wider', WIDER],
    ['narrower', NARROWER],
  ] as const) {
    const found = [...differences(side)].sort()
    for (const [names, why] of Object.entries(table)) t.diagnostic(`${side}: ${names}: ${why}`)
    assert.deepEqual(found, namesOf(table).sort(), `${side} than the public profile`)
    for (const name of found) assert.ok(page.includes(`\`${name}\``), `docs/security.md does not explain ${name}`)
  }
})

test('a group that a capability opens is closed without it, and opened by no other', () => {
  const plain = isAllowed(ours('amd64', []))
  for (const capability of CAPABILITIES) {
    const opened = without(isAllowed(ours('amd64', [capability])), plain)
    const known = [...(PUBLIC_WITH_CAPABILITY[capability] ?? []), ...namesOf(WIDER)]
    const extra = opened.filter((name) => !known.includes(name))
    assert.deepEqual(extra, [], capability)
  }
})

test('what it does not know does not exist; what it knows and refuses is forbidden', () => {
  for (const arch of ARCHES) {
    const profile = ours(arch, [])
    assert.deepEqual([profile.defaultAction, profile.defaultErrnoRet], ['SCMP_ACT_ERRNO', 38])
    const forbidden = profile.syscalls.filter(({ action, args }) => action === 'SCMP_ACT_ERRNO' && !args)
    assert.deepEqual([...new Set(forbidden.map(({ errnoRet }) => errnoRet))], [EPERM])
    const names = new Set(forbidden.flatMap((rule) => rule.names))
    for (const name of ['mount', 'bpf', 'keyctl', 'io_uring_setup', 'userfaultfd', 'kexec_load', 'unshare', 'setns']) {
      assert.ok(names.has(name), name)
    }
    assert.deepEqual(without(names, without(names, isAllowed(profile))), [])
  }
})

test('programs of the smaller word sizes of an architecture are filtered as well', () => {
  assert.deepEqual(seccompArchitectures('amd64'), ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'])
  assert.deepEqual(seccompArchitectures('arm64'), ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'])
  assert.equal(seccompArchitectures('mips64'), undefined)
})

const matches = ({ value, valueTwo = 0, op }: OciSyscallArgument, given: number): boolean =>
  op === 'SCMP_CMP_EQ' ? given === value : Number(BigInt(given) & BigInt(value)) === valueTwo

/** Whether a call with this first argument is let through. */
const passes = (name: string, given: number): boolean =>
  ours('amd64', []).syscalls.some(
    ({ action, names, args }) =>
      action === 'SCMP_ACT_ALLOW' && names.includes(name) && (args ?? []).every((argument) => matches(argument, given)),
  )

test('sockets of every family but AF_ALG and AF_VSOCK, as in the public profile', () => {
  // The kernel has families up to 45.
  for (let family = 0; family < 46; family++) assert.equal(passes('socket', family), family !== 38 && family !== 40)
})

test('personalities and flags of clone, as in the public profile', () => {
  for (const persona of [0, 8, 0x20000, 0x20008, 0xffffffff]) assert.ok(passes('personality', persona))
  for (const persona of [1, 0x40000, 0x400000, 0x20001]) assert.ok(!passes('personality', persona))
  assert.ok(passes('clone', 0x1200011))
  for (let bit = 0; bit < 32; bit++) {
    assert.equal(passes('clone', 2 ** bit), (BigInt(2 ** bit) & 0x7e020000n) === 0n, `bit ${bit}`)
  }
})
