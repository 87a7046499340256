/** How many files and sockets processes have open. A process may have a million: looked at in slices, so that others get their turn. */
import { closeSync, constants, fstatSync } from 'node:fs'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { AT_FDCWD, addr, rawSys } from './sys.ts'

export interface DescriptorCount {
  readonly descriptors: number
  readonly sockets: number
}

/** Of all processes together. What is beyond is counted where the kernel knows the number, and not looked at. */
const MAX_LOOKED_AT = 20_000

/** Linux 6.2 and later tell the number as the size of the directory; earlier ones say 0. */
const knownNumber = (fd: number): number => fstatSync(fd).size

const O_CLOEXEC = 0x80000
/** Looked at in one turn. */
const SLICE = 200

/** struct linux_dirent64: inode and offset of eight bytes each, length of the record, type, name. 24 bytes each for names of up to four digits. */
const RECORD_LENGTH = 16
const NAME = 19
const records = Buffer.allocUnsafeSlow(SLICE * 24)
const SOCKET = Buffer.from('socket:')
const link = Buffer.allocUnsafeSlow(SOCKET.length)
/** "." and ".." */
const DOT = '.'.charCodeAt(0)

const isSocket = (directory: number, nameAt: bigint): boolean =>
  rawSys('readlinkat', directory, nameAt, link, link.length) === SOCKET.length && link.equals(SOCKET)

const lookInto = async (path: string, most: number): Promise<DescriptorCount> => {
  const directory = rawSys('openat', AT_FDCWD, path, constants.O_RDONLY | constants.O_DIRECTORY | O_CLOEXEC)
  if (directory < 0) return { descriptors: 0, sockets: 0 }
  let [seen, sockets] = [0, 0]
  try {
    const begin = addr(records)
    for (;;) {
      const size = rawSys('getdents64', directory, records, records.length)
      // Less than nothing: the process ended while it was looked at.
      if (size <= 0) return { descriptors: seen, sockets }
      for (let at = 0; at < size; at += records.readUInt16LE(at + RECORD_LENGTH)) {
        if (records[at + NAME] === DOT) continue
        if (seen === most) return { descriptors: Math.max(seen, knownNumber(directory)), sockets }
        if (isSocket(directory, begin + BigInt(at + NAME))) sockets++
        seen++
      }
      if (seen >= SLICE) await nextTurn()
    }
  } finally {
    closeSync(directory)
  }
}

/** Processes that have ended meanwhile have nothing open. */
export const countDescriptors = async (pids: readonly number[]): Promise<DescriptorCount> => {
  let descriptors = 0
  let sockets = 0
  let left = MAX_LOOKED_AT
  for (const pid of pids) {
    const found = await lookInto(`/proc/${pid}/fd`, left)
    descriptors += found.descriptors
    sockets += found.sockets
    left = Math.max(0, left - found.descriptors)
  }
  return { descriptors, sockets }
}
