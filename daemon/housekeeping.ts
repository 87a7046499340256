/**
 * What is done every now and then, without being asked: give back what failed pulls and forgotten sandboxes left behind, and what no
 * record owns; end monitors that owe word of an end.
 */
import { messageOf } from '#proto/errors.ts'
import { endSilentMonitors } from './container/silent-monitors.ts'
import type { Parts } from './parts.ts'
import { sweepDirectories, sweepRootfs } from './recovery/sweep.ts'

const collectEveryMs = 60 * 60 * 1000

const sweep = async (parts: Parts): Promise<void> => {
  await sweepDirectories(parts)
  await sweepRootfs(parts)
}

/** @returns how to end it */
export function keepHouse(parts: Parts): () => void {
  const { images, log, network } = parts
  const collect = () => {
    images.collectGarbage().catch((error) => log.warn('Cannot collect garbage', { why: messageOf(error) }))
    void network.collectGarbage()
    sweep(parts).catch((error) => log.warn('Cannot sweep what no record owns', { why: messageOf(error) }))
  }
  // A crash may have been what made addresses forgotten.
  void network.collectGarbage()
  const timer = setInterval(collect, collectEveryMs).unref()
  const endLooking = endSilentMonitors(parts)
  return () => {
    clearInterval(timer)
    endLooking()
  }
}
