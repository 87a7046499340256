/**
 * Lets a test kill the daemon at a named stage, as a power cut would: the environment variable CRICKET_CRASH_POINT holds
 * "<operation>/<stage>" or "<operation>/<stage>#<n>" for the n-th time. Unset, as it is outside of tests, there is none.
 */
import type { StageWatcher } from './operations.ts'

/** @param die ends the process at once, without a chance to clean up */
export function crashPoint(text: string | undefined, die: () => void): StageWatcher | undefined {
  if (!text) return undefined
  const [place = '', count = '1'] = text.split('#')
  let left = Number.parseInt(count, 10)
  return (name, stage) => {
    if (`${name}/${stage}` !== place) return
    left--
    if (left === 0) die()
  }
}
