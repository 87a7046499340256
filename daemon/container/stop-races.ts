/**
 * The appointments with SIGKILL of containers that are being stopped. There is one per container; a later caller can only
 * bring it forward (the CRI lets a second StopContainer shorten the grace period).
 */
import type { ContainerId } from '../ids.ts'

interface Appointment {
  /** When the kill comes, on the monotonic clock, in ms. */
  at: number
  timer: NodeJS.Timeout
}

/** A process in an uninterruptible sleep ignores even SIGKILL until it wakes: ask again, ever more rarely. */
const firstRetryMs = 1_000
const longestRetryMs = 30_000

/** Node fires timers beyond this at once. */
const longestTimerMs = 2 ** 31 - 1

export class StopRaces {
  readonly #appointments = new Map<ContainerId, Appointment>()

  /**
   * Call `kill` at the latest `graceMs` from now, and again until `over` is called.
   * @returns whether this began the stop, rather than joining one.
   */
  killWithin(id: ContainerId, graceMs: number, kill: () => void): boolean {
    const wait = Math.min(Math.max(graceMs, 0), longestTimerMs)
    const at = performance.now() + wait
    const standing = this.#appointments.get(id)
    if (standing && standing.at <= at) return false
    if (standing) clearTimeout(standing.timer)
    this.#schedule(id, wait, kill, firstRetryMs)
    return standing === undefined
  }

  #schedule(id: ContainerId, waitMs: number, kill: () => void, retryMs: number): void {
    const fire = () => {
      this.#schedule(id, retryMs, kill, Math.min(retryMs * 2, longestRetryMs))
      kill()
    }
    const timer = setTimeout(fire, waitMs)
    timer.unref()
    this.#appointments.set(id, { at: performance.now() + waitMs, timer })
  }

  /** Whether the container is being stopped. */
  isOn(id: ContainerId): boolean {
    return this.#appointments.has(id)
  }

  /** The container has ended. */
  over(id: ContainerId): void {
    clearTimeout(this.#appointments.get(id)?.timer)
    this.#appointments.delete(id)
  }
}
