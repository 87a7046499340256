/**
 * A program whose filter asks a listener about two harmless system calls, `chdir` and `getppid`. Hands the listener over as an OCI
 * runtime does, then makes the calls that it reads, one name per line, and writes what each answered.
 */
import { closeSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { addr, keep, rawSys, sys } from '#linux/sys.ts'
import { syscallNumbers } from '#linux/syscall-numbers.ts'

const SET_NO_NEW_PRIVS = 38
const SET_MODE_FILTER = 1
const NEW_LISTENER = 8
const LOAD_NUMBER = [0x20, 0, 0, 0] as const
const EQUAL = 0x15
const RETURN = 0x06
const NOTIFY = 0x7fc00000
const ALLOW = 0x7fff0000

/** Of this thread alone, in which JavaScript runs. */
function askAbout(...numbers: number[]): number {
  const program = [
    LOAD_NUMBER,
    ...numbers.map((number, at) => [EQUAL, numbers.length - at, 0, number] as const),
    [RETURN, 0, 0, ALLOW] as const,
    [RETURN, 0, 0, NOTIFY] as const,
  ]
  const bytes = Buffer.alloc(program.length * 8)
  for (const [place, [code, yes, no, value]] of program.entries()) {
    bytes.writeUInt16LE(code, place * 8)
    bytes.writeUInt8(yes, place * 8 + 2)
    bytes.writeUInt8(no, place * 8 + 3)
    bytes.writeUInt32LE(value, place * 8 + 4)
  }
  const header = Buffer.alloc(16)
  header.writeUInt16LE(program.length, 0)
  header.writeBigUInt64LE(addr(bytes), 8)
  sys('prctl', SET_NO_NEW_PRIVS, 1, 0, 0, 0)
  const listener = sys('seccomp', SET_MODE_FILTER, NEW_LISTENER, header)
  keep(bytes)
  return listener
}

function handOver(path: string, fd: number): void {
  const address = Buffer.alloc(110)
  address.writeUInt16LE(1, 0)
  address.write(path, 2)
  const text = Buffer.from('x')
  const control = Buffer.alloc(24)
  control.writeBigUInt64LE(20n, 0)
  control.writeInt32LE(1, 8)
  control.writeInt32LE(1, 12)
  control.writeInt32LE(fd, 16)
  const vector = Buffer.alloc(16)
  vector.writeBigUInt64LE(addr(text), 0)
  vector.writeBigUInt64LE(BigInt(text.length), 8)
  const header = Buffer.alloc(56)
  header.writeBigUInt64LE(addr(vector), 16)
  header.writeBigUInt64LE(1n, 24)
  header.writeBigUInt64LE(addr(control), 32)
  header.writeBigUInt64LE(BigInt(control.length), 40)
  const socket = sys('socket', 1, 1, 0)
  sys('connect', socket, address, address.length)
  sys('sendmsg', socket, header, 0)
  keep(text, control, vector)
  closeSync(socket)
}

const directory = Buffer.from('/\0')
const CALLS: Readonly<Record<string, () => number>> = {
  chdir: () => rawSys('chdir', directory),
  getppid: () => rawSys('getppid'),
}

const listener = askAbout(syscallNumbers.chdir, syscallNumbers.getppid)
handOver(process.argv[2] ?? '', listener)
closeSync(listener)
console.log('ready')
for await (const line of createInterface({ input: process.stdin })) console.log(CALLS[line]?.() ?? 'unknown')
