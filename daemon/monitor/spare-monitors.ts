/**
 * Monitors that were started in advance: most of what a launch takes is over when a container comes. A spare one reads the name of a state
 * directory from a pipe and is a monitor like others then; it ends when the pipe does, and so with the daemon.
 */
import { closeSync, writeSync } from 'node:fs'
import { makePipe } from '#linux/pipes.ts'
import { longestAdoptedDir, spareFlag } from '#proto/conmon.ts'
import { messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { killGroup, type Spawned, type SpawnInput, spawnMonitor } from './spawn-monitor.ts'

interface Spare extends Spawned {
  /** The writing end of its pipe. */
  readonly orders: number
}

export interface SparesInput extends SpawnInput {
  /** How many are kept; 0 for none. */
  readonly count: number
  readonly log: Log
}

export class SpareMonitors {
  readonly #input: SparesInput
  readonly #spares = new Set<Spare>()
  #closed = false

  constructor(input: SparesInput) {
    this.#input = input
  }

  /** Pids of those that wait. */
  get waiting(): number[] {
    return [...this.#spares].map(({ monitor }) => monitor.pid)
  }

  /** Sends one of them to a state directory; undefined when there is none. It may still fail to become ready. */
  adopt(dir: string): Spawned | undefined {
    const [spare] = this.#spares
    if (spare === undefined || Buffer.byteLength(dir) > longestAdoptedDir) return undefined
    this.#spares.delete(spare)
    try {
      writeSync(spare.orders, `${dir}\n`)
      return spare
    } catch (error) {
      this.#input.log.warn('A spare monitor has gone', { pid: spare.monitor.pid, why: messageOf(error) })
      spare.ready.destroy()
      killGroup(spare.monitor)
      return undefined
    } finally {
      closeSync(spare.orders)
    }
  }

  /** Starts as many as are missing. Where that fails, monitors are launched when they are needed. */
  refill(): void {
    if (this.#closed) return
    try {
      while (this.#spares.size < this.#input.count) this.#add()
    } catch (error) {
      this.#input.log.warn('Cannot start a spare monitor', { why: messageOf(error) })
    }
  }

  /** Lets them end. */
  close(): void {
    this.#closed = true
    for (const spare of this.#spares) this.#drop(spare)
  }

  #add(): void {
    const { read, write } = makePipe()
    try {
      // The rest of the second argument is room: a monitor's command line names its directory.
      const own = [spareFlag, '-'.repeat(longestAdoptedDir)]
      const spare = { ...spawnMonitor(this.#input, own, 'ignore', [read]), orders: write }
      this.#spares.add(spare)
      spare.ready.unref()
      spare.ready.on('error', () => {})
      spare.ready.once('close', () => this.#drop(spare))
      spare.ready.resume()
    } catch (error) {
      closeSync(write)
      throw error
    } finally {
      closeSync(read)
    }
  }

  #drop(spare: Spare): void {
    if (!this.#spares.delete(spare)) return
    closeSync(spare.orders)
    spare.ready.destroy()
  }
}
