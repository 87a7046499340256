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

/** What a process is told to do that may die of it. */
export type Telling = 'story' | 'recover'

/** What is told, by processes that die and at last by one that does not. */
export interface CrashStory {
  /** The changes that it made, when it did not die. */
  inChild(root: string, what: Telling, point: DeathPoint): Promise<readonly string[] | 'died'>
  /** What is wrong right after a crash; changes what a start does. */
  judgeCrashed?(root: string): Promise<readonly string[]>
  tell(root: string): Promise<void>
  /** What is wrong after all was told. */
  judge(root: string): Promise<readonly string[]>
}

export const storageStory: CrashStory = {
  inChild: (root, what, point) => untilItDies(run(process.execPath, [program, root, what, point])),
  tell: tellCrashStory,
  judge: judgeCrashStory,
}

/** What a process wrote that was told to list its changes. */
export const untilItDies = async (ended: Promise<{ stdout: string }>): Promise<readonly string[] | 'died'> => {
  try {
    return JSON.parse((await ended).stdout) as string[]
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
  /** What is wrong after the crash, and after all was done again. */
  readonly wrong: readonly string[]
}

export const crashTrial = (story: CrashStory, first: DeathPoint, second?: DeathPoint): Promise<Trial> =>
  inDirectory(async (root) => {
    const died = (await story.inChild(root, 'story', first)) === 'died'
    const diedAgain = second !== undefined && (await story.inChild(root, 'recover', second)) === 'died'
    const crashed = (await story.judgeCrashed?.(root)) ?? []
    await story.tell(root)
    return { died, diedAgain, wrong: [...crashed, ...(await story.judge(root))] }
  })

/** All changes that the whole story makes, by name. */
export const changesOf = (story: CrashStory): Promise<readonly string[]> =>
  inDirectory(async (root) => {
    const changes = await story.inChild(root, 'story', '')
    if (changes === 'died') throw new Error('the story died by itself')
    return changes
  })

/** By name, its first and its last occurrence. */
export const namedPoints = (changes: readonly string[]): ReadonlyMap<string, readonly DeathPoint[]> =>
  new Map(
    [...new Set(changes)].map((name) => {
      const count = changes.filter((other) => other === name).length
      return [name, [...new Set([1, count])].map((nth) => `${name}#${nth}`)]
    }),
  )

const inDirectory = async <T>(use: (root: string) => Promise<T>): Promise<T> => {
  const root = mkdtempSync(join(tmpdir(), 'crash-'))
  try {
    return await use(root)
  } finally {
    for (const { mountpoint } of linux.readMountInfo().reverse())
      if (mountpoint.startsWith(`${root}/`)) linux.unmount(mountpoint, { detach: true })
    execFileSync('rm', ['-rf', '--one-file-system', root])
  }
}
