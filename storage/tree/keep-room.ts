/** Looks now and then, while something is copied, whether the daemon still has room for its own records. */
import { statfsSync } from 'node:fs'
import { RuntimeError } from '#proto/errors.ts'
import { DEFAULT_LIMITS } from '../tar/limits.ts'

const CHECK_BYTES = 64 * 2 ** 20
const CHECK_ENTRIES = 1000

/** @returns to be told of each entry, with the bytes that it took; throws resource-exhausted before the file system of `place` is quite full */
export const roomKeeper = (place: string): ((bytes: number) => void) => {
  let bytesToCheck = 0
  let entriesToCheck = 0
  return (bytes) => {
    bytesToCheck -= bytes
    entriesToCheck -= 1
    if (bytesToCheck > 0 && entriesToCheck > 0) return
    bytesToCheck = CHECK_BYTES
    entriesToCheck = CHECK_ENTRIES
    const { bavail, bsize, blocks } = statfsSync(place)
    if (bavail * bsize < Math.min(DEFAULT_LIMITS.reservedBytes, (blocks * bsize) / 20))
      throw new RuntimeError(
        'resource-exhausted',
        'No space left for copying layers beyond what the runtime keeps free',
      )
  }
}
