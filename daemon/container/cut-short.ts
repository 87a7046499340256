/** What cuts a command in a container short: its deadline, or a caller that goes away. The whole tree is killed. */
import type { Linux } from '#linux/linux.ts'
import { killTree } from './kill-tree.ts'

/** The longest wait that Node's timers can hold, which is 24 days. */
const longestTimerMs = 2 ** 31 - 1

/** How long a caller waits for processes that SIGKILL does not end at once; they are killed all the same. */
const stuckMs = 2_000

export class Cut {
  readonly #linux: Linux
  readonly #given = Promise.withResolvers<never>()
  #why: { readonly reason: unknown } | undefined
  #root: number | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(linux: Linux) {
    this.#linux = linux
    this.#given.promise.catch(() => {})
  }

  /** Cut with this reason unless the command has ended by then. */
  after(ms: number, reason: () => unknown): void {
    this.#timer = setTimeout(() => this.now(reason()), Math.min(ms, longestTimerMs))
  }

  now(reason: unknown): void {
    this.#why ??= { reason }
    if (this.#root !== undefined) killTree(this.#linux, this.#root)
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#given.reject(reason), stuckMs)
  }

  /** The process whose tree the command is; undefined while there is none. */
  isRoot(pid: number | undefined): void {
    this.#root = pid
    // The runtime was on its way out when the cut came: then the command had no parent to be found by.
    if (this.#why && pid !== undefined) killTree(this.#linux, pid)
  }

  /** The command has ended: what it left in the background does not make it late. */
  inTime(): void {
    if (!this.#why) clearTimeout(this.#timer)
  }

  /** The result, unless the cut came first. @throws the reason of the cut */
  async orResult<T>(result: Promise<T>): Promise<T> {
    try {
      const value = await Promise.race([result, this.#given.promise])
      if (!this.#why) return value
    } catch (error) {
      if (!this.#why) throw error
    } finally {
      clearTimeout(this.#timer)
    }
    throw this.#why.reason
  }
}
