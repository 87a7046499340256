/** What is done every now and then, without being asked: give back what failed pulls left behind. */
import { messageOf } from '#proto/errors.ts'
import type { Parts } from './parts.ts'

const collectEveryMs = 60 * 60 * 1000

/** @returns how to end it */
export function keepHouse({ images, log }: Pick<Parts, 'images' | 'log'>): () => void {
  const collect = () => {
    images.collectGarbage().catch((error) => log.warn('Cannot collect garbage', { why: messageOf(error) }))
  }
  const timer = setInterval(collect, collectEveryMs).unref()
  return () => clearInterval(timer)
}
