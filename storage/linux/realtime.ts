/** The clock on the wall to the nanosecond, which Node itself does not give. */
import { sys } from './sys.ts'

const CLOCK_GETTIME = process.arch === 'arm64' ? 113 : 228
const CLOCK_REALTIME = 0

/** Seconds and nanoseconds since 1970. One reader is one small buffer, used again and again. */
export class Realtime {
  readonly #time = Buffer.alloc(16)
  seconds = 0
  nanoseconds = 0

  read(): void {
    sys(CLOCK_GETTIME, CLOCK_REALTIME, this.#time)
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
