/** How many files and sockets processes have open. A process may have a million: looked at in slices, so that others get their turn. */
import { type Dir, opendirSync, readlinkSync, statSync } from 'node:fs'
import { setImmediate as nextTurn } from 'node:timers/promises'

export interface DescriptorCount {
  readonly descriptors: number
  readonly sockets: number
}

const SLICE = 200
/** Of all processes together. What is beyond is counted where the kernel knows the number, and not looked at. */
const MAX_LOOKED_AT = 20_000

/** Linux 6.2 and later tell the number as the size of the directory; earlier ones say 0. */
const knownNumber = (directory: string): number => statSync(directory, { throwIfNoEntry: false })?.size ?? 0

const open = (directory: string): Dir | undefined => {
  try {
    return opendirSync(directory, { bufferSize: SLICE })
  } catch {
    return undefined
  }
}

const isSocket = (path: string): boolean => {
  try {
    return readlinkSync(path).startsWith('socket:')
  } catch {
    return false
  }
}

const lookInto = async (directory: string, most: number): Promise<DescriptorCount> => {
  const entries = open(directory)
  if (entries === undefined) return { descriptors: 0, sockets: 0 }
  let seen = 0
  let sockets = 0
  try {
    for (let entry = entries.readSync(); entry !== null && seen < most; entry = entries.readSync()) {
      if (isSocket(`${directory}/${entry.name}`)) sockets++
      if (++seen % SLICE === 0) await nextTurn()
    }
    return { descriptors: Math.max(seen, knownNumber(directory)), sockets }
  } catch {
    // The process ended while it was looked at.
    return { descriptors: seen, sockets }
  } finally {
    entries.closeSync()
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
