/** The clocks of the machine: the one on the wall to the nanosecond, and the one that all processes share and nobody sets. */
import { rawSysOnce, sys } from './sys.ts'

const CLOCK_REALTIME = 0
const CLOCK_MONOTONIC = 1

/** Seconds and nanoseconds since 1970. One reader is one small buffer, used again and again. */
export class Realtime {
  readonly #time = Buffer.alloc(16)
  seconds = 0
  nanoseconds = 0

  read(): void {
    sys('clock_gettime', CLOCK_REALTIME, this.#time)
    this.seconds = this.#time.readUInt32LE(0) + this.#time.readInt32LE(4) * 2 ** 32
    this.nanoseconds = this.#time.readUInt32LE(8)
  }
}

/** Nanoseconds since 1970. */
export function realtimeNs(): bigint {
  const clock = new Realtime()
  clock.read()
  return BigInt(clock.seconds) * 1_000_000_000n + BigInt(clock.nanoseconds)
}

/** Does nothing at all on this thread for this long, or until a signal comes. */
export class Nap {
  readonly #time = Buffer.alloc(16)

  constructor(microseconds: number) {
    this.#time.writeBigInt64LE(BigInt(microseconds) * 1000n, 8)
  }

  take(): void {
    rawSysOnce('nanosleep', this.#time, null)
  }
}

/** Milliseconds since some moment before all processes: for deadlines that two processes agree on. */
export function monotonicMs(): number {
  const time = Buffer.alloc(16)
  sys('clock_gettime', CLOCK_MONOTONIC, time)
  return Number(time.readBigInt64LE(0)) * 1000 + time.readUInt32LE(8) / 1e6
}
