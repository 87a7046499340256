/** Denies system calls to this process, all its threads, for good (seccomp(2)). For programs of ours that read what strangers wrote. */
import { addr, keep, sys } from './sys.ts'
import { type SyscallName, syscallNumbers } from './syscall-numbers.ts'

const SET_MODE_FILTER = 1
const ALL_THREADS = 1
const AUDIT_ARCH = process.arch === 'arm64' ? 0xc00000b7 : 0xc000003e
/** Numbers of the x32 form of a call have this bit. */
const X32 = 0x40000000
const LOAD = 0x20
const EQUAL = 0x15
const AT_LEAST = 0x35
const RETURN = 0x06
const ALLOW = 0x7fff0000
const FAIL_EPERM = 0x00050001
const NUMBER_AT = 0
const ARCH_AT = 4

interface Instruction {
  readonly code: number
  readonly value: number
  /** Instructions to skip when the comparison is true, and when not. */
  readonly yes?: number
  readonly no?: number
}

/** From now on these calls, and all calls of another machine's kind, fail with EPERM. Needs no_new_privs, or CAP_SYS_ADMIN. */
export const denyCalls = (names: readonly SyscallName[]): void => {
  const program = filterOf(names.map((name) => syscallNumbers[name]))
  const bytes = Buffer.alloc(program.length * 8)
  for (const [place, { code, value, yes = 0, no = 0 }] of program.entries()) {
    bytes.writeUInt16LE(code, place * 8)
    bytes.writeUInt8(yes, place * 8 + 2)
    bytes.writeUInt8(no, place * 8 + 3)
    bytes.writeUInt32LE(value, place * 8 + 4)
  }
  const header = Buffer.alloc(16)
  header.writeUInt16LE(program.length, 0)
  header.writeBigUInt64LE(addr(bytes), 8)
  sys('seccomp', SET_MODE_FILTER, ALL_THREADS, header)
  keep(bytes)
}

/** One comparison per call, each of which leads to the last instruction. */
const filterOf = (numbers: readonly number[]): Instruction[] => [
  { code: LOAD, value: ARCH_AT },
  { code: EQUAL, value: AUDIT_ARCH, no: numbers.length + 3 },
  { code: LOAD, value: NUMBER_AT },
  { code: AT_LEAST, value: X32, yes: numbers.length + 1 },
  ...numbers.map((value, place) => ({ code: EQUAL, value, yes: numbers.length - place })),
  { code: RETURN, value: ALLOW },
  { code: RETURN, value: FAIL_EPERM },
]
