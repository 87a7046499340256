/** Learns how the container's init ended, and buries every other process that was adopted; the only file that knows how. */
import { closeSync } from 'node:fs'
import { readable } from '#linux/epoll.ts'
import { isErrno } from '#linux/errno.ts'
import { openPidfd } from '#linux/pidfd.ts'
import { type ProcessIdentity, processIdentity } from '#linux/proc.ts'
import { type ChildExit, reapOrphans, waitForChild } from '#linux/reaper.ts'
import type { Reactor } from './reactor.ts'

export type InitExit = ChildExit | { readonly how: 'unknown'; readonly why: string }

export class Reaper {
  readonly #reactor: Reactor
  /** Children that somebody else waits for. */
  readonly #owned = new Set<number>()
  /** Those of them that we have started ourselves. */
  readonly #awaited = new Map<number, (exit: ChildExit | undefined) => void>()
  #holding = 0

  constructor(reactor: Reactor) {
    this.#reactor = reactor
    process.on('SIGCHLD', () => this.#reap())
  }

  /** Runs `work` without burying anyone: init may die before we know its pid. */
  async whileHolding<T>(work: () => Promise<T>): Promise<T> {
    this.#holding++
    try {
      return await work()
    } finally {
      this.#holding--
      this.#reap()
    }
  }

  /**
   * How a child that has just been started ends; undefined when somebody else has buried it.
   * @param buried is called as it is buried: its pid may be another's from then on
   */
  wait(pid: number, buried: () => void): Promise<ChildExit | undefined> {
    this.#owned.add(pid)
    return new Promise((resolve) => {
      this.#awaited.set(pid, (exit) => {
        buried()
        resolve(exit)
      })
      this.#ask(pid)
    })
  }

  /** How init ends; never rejects. From the call on, nobody else buries it. */
  watch(init: ProcessIdentity): Promise<InitExit> {
    this.#owned.add(init.pid)
    return new Promise((resolve) => {
      let pidfd: number
      try {
        pidfd = openPidfd(init.pid)
      } catch (error) {
        if (!isErrno(error, 'ESRCH')) throw error
        resolve({ how: 'unknown', why: 'the process had vanished before it could be watched' })
        return
      }
      this.#reactor.add(pidfd, readable, () => {
        this.#reactor.remove(pidfd)
        closeSync(pidfd)
        resolve(bury(init))
        this.#owned.delete(init.pid)
        this.#reap()
      })
      // The descriptor holds whoever had the pid when it was opened: was that init?
      if (processIdentity(init.pid)?.startTime === init.startTime) return
      this.#reactor.remove(pidfd)
      closeSync(pidfd)
      resolve({ how: 'unknown', why: 'another process had its pid before it could be watched' })
    })
  }

  #ask(pid: number): void {
    const exit = exitOf(pid)
    if (exit === 'runs') return
    this.#awaited.get(pid)?.(exit)
    this.#awaited.delete(pid)
    this.#owned.delete(pid)
  }

  #reap(): void {
    for (const pid of [...this.#awaited.keys()]) this.#ask(pid)
    if (this.#holding === 0) reapOrphans(this.#owned)
  }
}

function exitOf(pid: number): ChildExit | 'runs' | undefined {
  try {
    return waitForChild(pid) ?? 'runs'
  } catch (error) {
    if (isErrno(error, 'ECHILD')) return undefined
    throw error
  }
}

function bury({ pid }: ProcessIdentity): InitExit {
  try {
    return waitForChild(pid) ?? { how: 'unknown', why: 'the process ended but could not be waited for' }
  } catch (error) {
    if (isErrno(error, 'ECHILD')) return { how: 'unknown', why: 'the process is not a child of the monitor' }
    throw error
  }
}
