/** Runs a story in a directory of its own while its disk is written down. For tests. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Recording, recordWrites } from './record-writes.ts'

/** @returns what was written down, and what the story gave. Tests of one process take turns: the recording is of all of it. */
export const recordStory = async <T>(
  t: { after(cleanUp: () => void): void },
  tell: (root: string, recording: Recording) => Promise<T>,
): Promise<{ recording: Recording; result: T }> => {
  const directory = mkdtempSync(join(tmpdir(), 'power-cut-'))
  t.after(() => void execFileSync('rm', ['-rf', '--one-file-system', directory]))
  const root = join(directory, 'disk')
  mkdirSync(root)
  const recording = await recordWrites(root)
  try {
    return { recording, result: await tell(root, recording) }
  } finally {
    recording.stop()
  }
}
