/**
 * A kernel file that is read again and again: kept open, because finding it by its path costs several times what reading it does. The
 * kernel makes its content anew for each read from the beginning.
 */
import { closeSync, constants, openSync } from 'node:fs'
import { isErrno } from './errno.ts'
import { sys } from './sys.ts'

/** Counters of the kernel are far smaller; what is longer is cut. */
const text = Buffer.allocUnsafeSlow(64 * 1024)
/** How many all of them together keep open; further ones are opened for each reading. */
const MAX_HELD = 4096
let held = 0

/** Whether one more may be kept open, which then counts until it is let go. */
export const mayHold = (): boolean => {
  if (held >= MAX_HELD) return false
  held++
  return true
}

export const letGo = (): void => void held--

/** EINVAL: nothing is pinned any more where a namespace was to be entered. */
export const GONE = ['ENOENT', 'ENODEV', 'ESRCH', 'ENOTDIR', 'EOPNOTSUPP', 'EINVAL'] as const

const contentOf = (fd: number): string => text.toString('latin1', 0, sys('pread64', fd, text, text.length, 0))

/** Opens in the surroundings that it makes: inside a namespace. */
type Around = (open: () => number) => number

export class HeldFile {
  readonly #path: string
  readonly #around: Around
  #fd: number | undefined

  constructor(path: string, around: Around = (open) => open()) {
    this.#path = path
    this.#around = around
  }

  /** Its content; undefined when the file, or the cgroup that it belongs to, is gone. */
  read(): string | undefined {
    const wasOpen = this.#fd !== undefined
    const content = this.#tryRead()
    // A cgroup of the same path may have taken the place of the one that was open.
    return content === undefined && wasOpen ? this.#tryRead() : content
  }

  close(): void {
    if (this.#fd === undefined) return
    closeSync(this.#fd)
    this.#fd = undefined
    letGo()
  }

  #tryRead(): string | undefined {
    try {
      this.#open()
      if (this.#fd === undefined) return this.#readOnce()
      return contentOf(this.#fd)
    } catch (error) {
      this.close()
      if (isErrno(error, ...GONE)) return undefined
      throw error
    }
  }

  #open(): void {
    if (this.#fd !== undefined || !mayHold()) return
    try {
      this.#fd = this.#around(() => openSync(this.#path, constants.O_RDONLY | constants.O_NONBLOCK))
    } finally {
      if (this.#fd === undefined) letGo()
    }
  }

  #readOnce(): string {
    const fd = this.#around(() => openSync(this.#path, constants.O_RDONLY | constants.O_NONBLOCK))
    try {
      return contentOf(fd)
    } finally {
      closeSync(fd)
    }
  }
}

/** How many are open at this moment. */
export const heldFiles = (): number => held
