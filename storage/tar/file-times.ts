/** Sets times to the nanosecond, which Node's own calls cannot: they take seconds as a floating-point number. */

import type { Stats } from 'node:fs'
import { AT_FDCWD, pathArgument, sys } from '#linux/sys.ts'
import type { Timestamp } from './pax.ts'

const AT_SYMLINK_NOFOLLOW = 0x100
/** What ext4 can hold; later times make other file systems fail. */
const LAST_SECOND = 2 ** 34 - 2 ** 31 - 1

const times = Buffer.alloc(32)

/** Sets access and modification time of an open file, or of what `target` names (never what a link there points to). */
export const setTimes = (target: number | Uint8Array, { seconds, nanoseconds }: Timestamp): void => {
  const clamped = BigInt(Math.min(Math.max(seconds, 0), LAST_SECOND))
  for (const at of [0, 16]) {
    times.writeBigInt64LE(clamped, at)
    times.writeBigInt64LE(BigInt(seconds < 0 ? 0 : nanoseconds), at + 8)
  }
  if (typeof target === 'number') sys('utimensat', target, null, times, 0)
  else sys('utimensat', AT_FDCWD, pathArgument(target), times, AT_SYMLINK_NOFOLLOW)
}

/** When a file was changed, for a copy of it. Whole microseconds are enough: the source was set from an archive. */
export const timeOf = (stat: Stats): Timestamp => {
  const seconds = Math.floor(stat.mtimeMs / 1000)
  return { seconds, nanoseconds: Math.floor((stat.mtimeMs - seconds * 1000) * 1e6) }
}
