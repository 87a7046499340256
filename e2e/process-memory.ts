/** What a process costs: private dirty memory is its own, PSS is its share of everything it maps. */

import { readFile } from 'node:fs/promises'

export interface ProcessMemory {
  /** Bytes. */
  privateDirty: number
  pss: number
  rss: number
}

/** Figures of `/proc/<pid>/smaps_rollup`. Pages that wait to be written back count as dirty: `sync` before. */
export async function memoryOf(pid: number): Promise<ProcessMemory> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8')
  const bytes = (key: string) => Number(new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1] ?? 0) * 1024
  return { privateDirty: bytes('Private_Dirty'), pss: bytes('Pss'), rss: bytes('Rss') }
}
