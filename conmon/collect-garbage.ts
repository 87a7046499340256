/** Gives back what making the container has left in memory. Bun would do it by a timer for ever, which the launcher turns off. */

const settleMs = 1000

interface Bun {
  gc(synchronously: boolean): unknown
}

const hasBun = (value: object): value is { Bun: Bun } => 'Bun' in value

/** Once, soon. Nothing happens under Node, which does not let itself be asked. */
export function collectGarbageSoon(): void {
  const runtime: object = globalThis
  if (hasBun(runtime)) setTimeout(() => runtime.Bun.gc(true), settleMs)
}
