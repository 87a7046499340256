/** Lays out every state that a power cut may leave behind as real files, and has a recovery judge it. For tests. */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { messageOf } from '#proto/errors.ts'
import { type Choice, crashStates } from './crash-states.ts'
import type { Disk } from './disk-log.ts'
import type { Recording } from './record-writes.ts'

export interface Tried {
  /** States generated, and how many of them differ. */
  readonly states: number
  readonly distinct: number
  /** What was wrong, each with how the state came about. */
  readonly illegal: readonly string[]
}

/** What is wrong with a state; nothing is right. `told`: what callers had been told. May change the files. */
export type Judge = (root: string, told: ReadonlySet<string>, nth: number) => Promise<readonly string[]>

/** @param enough stops when so many states were illegal */
export const tryStates = async (recording: Recording, choice: Choice, judge: Judge, enough = 20): Promise<Tried> => {
  const base = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'power-cut-'))
  const seen = new Set<string>()
  const illegal: string[] = []
  let states = 0
  try {
    for (const { disk, told, how } of crashStates(recording.log, recording.born, choice)) {
      states++
      const sign = signature(disk, told)
      if (seen.has(sign)) continue
      seen.add(sign)
      const root = join(base, String(seen.size))
      layOut(disk, root)
      const wrong = await judge(root, new Set(told), seen.size).catch((error) => [
        `recovery failed: ${messageOf(error)}`,
      ])
      for (const what of wrong) illegal.push(`${what} (${how})`)
      rmSync(root, { recursive: true, force: true })
      if (illegal.length >= enough) break
    }
  } finally {
    rmSync(base, { recursive: true, force: true })
  }
  return { states, distinct: seen.size, illegal }
}

const signature = (disk: Disk, told: readonly string[]): string => {
  const hash = createHash('sha1').update(told.join('\0'))
  const lines = [...disk.walk()].sort(([a], [b]) => (a < b ? -1 : 1))
  for (const [path, node] of lines) {
    hash.update(`\0${path}\0${node.is}\0`)
    if (node.is === 'file') hash.update(node.content)
  }
  return hash.digest('base64')
}

const layOut = (disk: Disk, root: string): void => {
  for (const [path, node] of disk.walk()) {
    if (node.is === 'dir') mkdirSync(`${root}${path}`)
    else if (node.is === 'file') writeFileSync(`${root}${path}`, node.content)
    else symlinkSync(node.target, `${root}${path}`)
  }
}

/** What the log would be if the program left out the syncs that `forget` names. */
export const forgetting = (recording: Recording, forget: (what: string, index: number) => boolean): Recording => ({
  ...recording,
  // The numbers of changes stay as they are: syncs refer to them.
  log: recording.log.map((change, index) =>
    change.is === 'sync' && forget(change.what, index) ? { ...change, before: 0 } : change,
  ),
})
