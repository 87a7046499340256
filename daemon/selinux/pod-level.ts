/** The SELinux level of a pod: the one it asks for, or a pair of categories that no other pod on this node has. */
import { randomInt } from 'node:crypto'
import { RuntimeError } from '#proto/errors.ts'

/** Policies have the categories c0 to c1023. */
const CATEGORIES = 1024
const PAIRS = (CATEGORIES * (CATEGORIES - 1)) / 2

/** The n-th pair of two different categories, smaller first. */
export const pairLevel = (n: number): string => {
  // Pairs whose larger category is `large` begin at large * (large - 1) / 2.
  let large = Math.floor((1 + Math.sqrt(1 + 8 * n)) / 2)
  if ((large * (large - 1)) / 2 > n) large--
  return `s0:c${n - (large * (large - 1)) / 2},c${large}`
}

/**
 * A level that is not among `taken`, the levels of all pods that are there; a pod gives its level back by being removed.
 * Where the search begins is random, so that a level is not given to the next pod at once: files of the last one may
 * still carry it.
 * @throws RuntimeError resource-exhausted
 */
export const freeLevel = (taken: ReadonlySet<string>, begin = randomInt(PAIRS)): string => {
  for (let step = 0; step < PAIRS; step++) {
    const level = pairLevel((begin + step) % PAIRS)
    if (!taken.has(level)) return level
  }
  throw new RuntimeError('resource-exhausted', 'Every pair of SELinux categories is taken by a pod')
}
