/**
 * The lock on the key of an object that an earlier daemon has half made, for as long as it is being undone: whoever asks for
 * the same object waits for it, instead of being told that there is one.
 */
import type { Parts } from './parts.ts'

export const undoing = (key: string): string => `undoing:${key}`

/** @throws the signal's reason */
export async function untilUndone({ locks }: Pick<Parts, 'locks'>, key: string, signal?: AbortSignal): Promise<void> {
  using _ = await locks.take(undoing(key), signal)
}
