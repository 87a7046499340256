/**
 * Waiting for many descriptors at once, on this thread or on a pool thread. What Node and Bun offer for sockets and pipes
 * costs a monitor 2 MB each; this costs nothing. Level-triggered.
 */
import { closeSync } from 'node:fs'
import { rawSys, sys, sysAsync, sysError } from './sys.ts'

const arm = process.arch === 'arm64'
const EPOLL_CLOEXEC = 0o2000000
const ADD = 1
const REMOVE = 2
const CHANGE = 3
// The kernel packs the structure on x86-64 only.
const EVENT_BYTES = arm ? 16 : 12
const DATA_OFFSET = arm ? 8 : 4

/** Errors and hang-ups are reported besides, asked for or not. */
export const readable = 0x1
/** Urgent data; for files of the kernel that tell of changes. */
export const changed = 0x2
export const writable = 0x4
export const peerClosed = 0x2000

export class Epoll {
  readonly #fd: number
  readonly #events: Buffer
  readonly #capacity: number
  readonly #change = Buffer.alloc(EVENT_BYTES)

  /** @param capacity how many events one wait can report */
  constructor(capacity = 16) {
    this.#fd = sys('epoll_create1', EPOLL_CLOEXEC)
    this.#capacity = capacity
    this.#events = Buffer.alloc(capacity * EVENT_BYTES)
  }

  add(fd: number, interest: number): void {
    this.#control(ADD, fd, interest)
  }

  change(fd: number, interest: number): void {
    this.#control(CHANGE, fd, interest)
  }

  remove(fd: number): void {
    this.#control(REMOVE, fd, 0)
  }

  /** Waits on this thread. Returns how many events there are: 0 when the time is over (-1: for ever) or a signal came. */
  wait(timeoutMs: number): number {
    const count = rawSys('epoll_pwait', this.#fd, this.#events, this.#capacity, timeoutMs, null, 8)
    if (count < 0) throw sysError(count, 'epoll_pwait')
    return count
  }

  /** Waits on a pool thread as long as it takes. */
  waitAsync(): Promise<number> {
    return sysAsync('epoll_pwait', this.#fd, this.#events, this.#capacity, -1, null, 8)
  }

  /** The descriptor of the `index`th event of the last wait. */
  fdAt(index: number): number {
    return this.#events.readInt32LE(index * EVENT_BYTES + DATA_OFFSET)
  }

  eventsAt(index: number): number {
    return this.#events.readUInt32LE(index * EVENT_BYTES)
  }

  /** Never while a wait is under way. */
  close(): void {
    closeSync(this.#fd)
  }

  #control(operation: number, fd: number, interest: number): void {
    this.#change.writeUInt32LE(interest, 0)
    this.#change.writeInt32LE(fd, DATA_OFFSET)
    sys('epoll_ctl', this.#fd, operation, fd, this.#change)
  }
}
