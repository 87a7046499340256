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

  /** Leaves a child to Node until the returned function is called. */
  leave(pid: number): () => void {
    this.#owned.add(pid)
    return () => {
      this.#owned.delete(pid)
      this.#reap()
    }
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

  #reap(): void {
    if (this.#holding === 0) reapOrphans(this.#owned)
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
