/** How eager the kernel is to kill the monitor when memory is short: as little as the host allows, and no child inherits it. */
import { readFileSync } from 'node:fs'
import { isErrno } from '#linux/errno.ts'
import { writeKernelFile } from '#linux/write-kernel-file.ts'

const FILE = '/proc/self/oom_score_adj'

/** What a runtime process starts with; the container's own score is in its spec. */
export const neutralScore = 0

export class OomScore {
  readonly #own: number

  /** Lowers the score to `wanted`, or as far as the host allows. */
  constructor(wanted: number) {
    this.#own = lower(wanted, readScore())
  }

  /** What this process runs with. */
  get own(): number {
    return this.#own
  }
}

const readScore = (): number => Number(readFileSync(FILE, 'latin1'))

/** Says whether the kernel took it. */
function write(score: number): boolean {
  try {
    writeKernelFile(FILE, String(score))
    return true
  } catch (error) {
    if (isErrno(error, 'EACCES', 'EPERM')) return false
    throw error
  }
}

/** Without CAP_SYS_RESOURCE the kernel has a limit it does not tell: search for it. */
function lower(wanted: number, now: number): number {
  if (write(wanted)) return wanted
  let refused = wanted
  let taken = now
  while (taken - refused > 1) {
    const middle = Math.floor((refused + taken) / 2)
    if (write(middle)) taken = middle
    else refused = middle
  }
  return taken
}
