/**
 * Keeps the garbage of a busy stream small. A chunk is a small object to V8 with much memory behind it that it hardly
 * counts: without being told, a thread that inflates a layer lets 60 MB of them pile up.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** @returns to be called with the size of each chunk; collects young garbage every `everyBytes` */
export const garbageLimit = (everyBytes: number): ((bytes: number) => void) => {
  // Bun's collector counts what lies behind a chunk.
  if (process.versions.bun !== undefined) return () => {}
  setFlagsFromString('--expose-gc')
  const gc: unknown = runInNewContext('gc')
  let since = 0
  return (bytes) => {
    since += bytes
    if (since < everyBytes || typeof gc !== 'function') return
    since = 0
    gc({ type: 'minor' })
  }
}
