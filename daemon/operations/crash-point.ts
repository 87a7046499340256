/**
 * Lets a test kill the daemon at a named stage, as a power cut would: the environment variable CRICKET_CRASH_POINT holds
 * "<operation>/<stage>" or "<operation>/<stage>#<n>" for the n-th time. "list" kills nobody and names each stage on
 * standard error, so that a test can ask which ones there are. Unset, as it is outside of tests, nothing happens.
 */
import type { StageWatcher } from './operations.ts'

/**
 * @param die ends the process at once, without a chance to clean up
 * @param tell prints a line for "list"
 */
export function crashPoint(
  text: string | undefined,
  die: () => void,
  tell: (line: string) => void = (line) => void process.stderr.write(line),
): StageWatcher | undefined {
  if (!text) return undefined
  if (text === 'list') return (name, stage) => tell(`stage ${name}/${stage}\n`)
  const [place = '', count = '1'] = text.split('#')
  let left = Number.parseInt(count, 10)
  return (name, stage) => {
    if (`${name}/${stage}` !== place) return
    left--
    if (left === 0) die()
  }
}
