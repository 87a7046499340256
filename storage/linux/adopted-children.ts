/**
 * Children that became ours when their parent ended (this process is a subreaper): somebody waits for some of them, the others
 * are only reaped. Those that Node started itself belong to libuv and are left alone, as are those that somebody spoke for.
 */
import { isErrno } from './errno.ts'
import { type ChildExit, reapOrphans, waitForChild } from './reaper.ts'

export class AdoptedChildren {
  readonly #waiters = new Map<number, (exit: ChildExit) => void>()
  /** Exits that came before anybody asked; kept only while somebody expects to ask. */
  readonly #early = new Map<number, ChildExit>()
  readonly #others = new Set<number>()
  #expecting = 0

  /**
   * From now until disposal no exit is lost: to be called before the child can end, by those who learn its pid later than
   * this process may see its end.
   */
  expect(): Disposable {
    this.#expecting++
    return {
      [Symbol.dispose]: () => {
        if (--this.#expecting === 0) this.#early.clear()
      },
    }
  }

  /** Until disposal somebody else waits for this child, whom libuv does not know either. */
  leave(pid: number): Disposable {
    this.#others.add(pid)
    return { [Symbol.dispose]: () => void this.#others.delete(pid) }
  }

  /** How the child ends. It must be ours already: its former parent has ended. */
  wait(pid: number): Promise<ChildExit> {
    const early = this.#early.get(pid)
    if (early) return Promise.resolve(early)
    return new Promise((resolve) => {
      this.#waiters.set(pid, resolve)
      this.#ask(pid)
    })
  }

  /** To be called whenever a child may have ended: cheap when nobody waits. */
  look(): void {
    for (const pid of this.#waiters.keys()) this.#ask(pid)
  }

  /** Reap those that nobody waits for. @param owned the pids that libuv waits for */
  reap(owned: ReadonlySet<number>): void {
    const exits = reapOrphans(new Set([...owned, ...this.#waiters.keys(), ...this.#others]))
    if (this.#expecting > 0) for (const exit of exits) this.#early.set(exit.pid, exit)
  }

  #ask(pid: number): void {
    const exit = exitOf(pid)
    if (!exit) return
    const resolve = this.#waiters.get(pid)
    this.#waiters.delete(pid)
    resolve?.(exit)
  }
}

/** A child that somebody else has waited for ended in a way that nobody knows any more. */
const exitOf = (pid: number): ChildExit | undefined => {
  try {
    return waitForChild(pid)
  } catch (error) {
    if (isErrno(error, 'ECHILD')) return { pid, how: 'exited', code: 255 }
    throw error
  }
}
