/** The meters of all cgroups that somebody asks about. */
import type { Linux } from '#linux/linux.ts'
import { UsageMeter } from './usage.ts'

export class Meters {
  readonly #linux: Pick<Linux, 'cgroupCounters'>
  readonly #meters = new Map<string, UsageMeter>()

  constructor(linux: Pick<Linux, 'cgroupCounters'>) {
    this.#linux = linux
  }

  /** The meter of a container's cgroup. `ageMs` as in UsageMeter. */
  of(path: string, ageMs: () => number): UsageMeter {
    return this.#meters.get(path) ?? this.#keep(path, new UsageMeter(this.#linux.cgroupCounters(path, false), ageMs()))
  }

  /** That of a pod's, or of its init process: their tasks are told. */
  ofPod(path: string): UsageMeter {
    return this.#meters.get(path) ?? this.#keep(path, new UsageMeter(this.#linux.cgroupCounters(path, true)))
  }

  #keep(path: string, meter: UsageMeter): UsageMeter {
    this.#meters.set(path, meter)
    return meter
  }

  /** Of a cgroup that is about to go. */
  forget(path: string): void {
    this.#meters.get(path)?.close()
    this.#meters.delete(path)
  }

  /** Let go of all files. The rates are kept: they are small, and the next answer has something to compare with. */
  close(): void {
    for (const meter of this.#meters.values()) meter.close()
  }
}
