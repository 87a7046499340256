/** One crash, maybe a second one in the recovery from it, and what became of it. For tests. */
import { execFile, execFileSync } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { linux } from '#linux/linux.ts'
import { judgeCrashStory, tellCrashStory } from './crash-story.ts'
import type { DeathPoint } from './die-at.ts'

const run = promisify(execFile)
const program = join(import.meta.dirname, 'child.ts')

/** How many changes it made, when it did not die. */
const child = async (root: string, what: 'story' | 'recover', point: DeathPoint): Promise<number | 'died'> => {
  try {
    return Number((await run(process.execPath, [program, root, what, point])).stdout)
  } catch (error) {
    if (error instanceof Error && 'signal' in error && error.signal === 'SIGKILL') return 'died'
    throw error
  }
}

export interface Trial {
  /** Whether the point was reached. */
  readonly died: boolean
  /** Whether that of the recovery was. */
  readonly diedAgain: boolean
  /** What is wrong after all was done again. */
  readonly wrong: readonly string[]
}

export const crashTrial = async (first: DeathPoint, second?: DeathPoint): Promise<Trial> => {
  const root = mkdtempSync(join(tmpdir(), 'crash-'))
  try {
    const died = (await child(root, 'story', first)) === 'died'
    const diedAgain = second !== undefined && (await child(root, 'recover', second)) === 'died'
    await tellCrashStory(root)
    return { died, diedAgain, wrong: await judgeCrashStory(root) }
  } finally {
    for (const { mountpoint } of linux.readMountInfo().reverse())
      if (mountpoint.startsWith(`${root}/`)) linux.unmount(mountpoint, { detach: true })
    execFileSync('rm', ['-rf', '--one-file-system', root])
  }
}

/** The number of changes that the whole story makes. */
export const countChanges = async (): Promise<number> => {
  const root = mkdtempSync(join(tmpdir(), 'crash-'))
  try {
    const count = await child(root, 'story', '')
    if (count === 'died') throw new Error('the story died by itself')
    return count
  } finally {
    execFileSync('rm', ['-rf', '--one-file-system', root])
  }
}
