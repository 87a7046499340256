/** Settings of a pseudo terminal, given its master. */
import { sys } from './sys.ts'

const TCGETS = 0x5401
const TCSETS = 0x5402
const TIOCGWINSZ = 0x5413
const TIOCSWINSZ = 0x5414
const ONLCR = 4
const TERMIOS_SIZE = 36
/** BRKINT, ISTRIP, INLCR, IGNCR, ICRNL, IXON, IXANY: all that changes or swallows input. */
const COOKED_INPUT = 0o2 | 0o40 | 0o100 | 0o200 | 0o400 | 0o2000 | 0o4000
/** ISIG, ICANON, ECHO, ECHOE, ECHOK, ECHONL, ECHOCTL, ECHOKE, IEXTEN. */
const COOKED_LOCAL = 0o1 | 0o2 | 0o10 | 0o20 | 0o40 | 0o100 | 0o1000 | 0o4000 | 0o100000
const MAX_SIZE = 0xffff

export interface WindowSize {
  width: number
  height: number
}

const cells = (value: number): number => Math.min(Math.max(Math.trunc(value), 0), MAX_SIZE)

/** Sets the size in characters; what is beyond 65535 is cut. The foreground process gets SIGWINCH. */
export const setWindowSize = (fd: number, { width, height }: WindowSize): void => {
  const size = Buffer.alloc(8)
  size.writeUInt16LE(cells(height), 0)
  size.writeUInt16LE(cells(width), 2)
  sys('ioctl', fd, TIOCSWINSZ, size)
}

/** The size in characters. */
export const windowSize = (fd: number): WindowSize => {
  const size = Buffer.alloc(8)
  sys('ioctl', fd, TIOCGWINSZ, size)
  return { height: size.readUInt16LE(0), width: size.readUInt16LE(2) }
}

/** From now on what is written reaches the program byte by byte: no echo, no lines, no signals. Its output stays as it was. */
export const setRawInput = (fd: number): void => {
  const termios = Buffer.alloc(TERMIOS_SIZE)
  sys('ioctl', fd, TCGETS, termios)
  termios.writeUInt32LE((termios.readUInt32LE(0) & ~COOKED_INPUT) >>> 0, 0)
  termios.writeUInt32LE((termios.readUInt32LE(12) & ~COOKED_LOCAL) >>> 0, 12)
  sys('ioctl', fd, TCSETS, termios)
}

/** Says whether a line feed from the program comes out as carriage return and line feed. */
export const setOnlcr = (fd: number, on: boolean): void => {
  const termios = Buffer.alloc(TERMIOS_SIZE)
  sys('ioctl', fd, TCGETS, termios)
  const flags = termios.readUInt32LE(4)
  termios.writeUInt32LE(on ? flags | ONLCR : (flags & ~ONLCR) >>> 0, 4)
  sys('ioctl', fd, TCSETS, termios)
}
