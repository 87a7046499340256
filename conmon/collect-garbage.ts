/** Gives back what making the container has left in memory. Bun would do it by a timer for ever, which the launcher turns off. */

const settleMs = 1000

interface Bun {
  gc(synchronously: boolean): unknown
}

const hasBun = (value: object): value is { Bun: Bun } => 'Bun' in value

/** At once. */
export function collectGarbage(): void {
  const runtime: object = globalThis
  if (hasBun(runtime)) runtime.Bun.gc(true)
}

/** Once, soon. Nothing happens under Node, which does not let itself be asked. */
export function collectGarbageSoon(): void {
  if (hasBun(globalThis)) setTimeout(collectGarbage, settleMs)
}
