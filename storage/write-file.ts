/** Writing small files whose failure has to name them: Node's error of a write knows no path. */
import { writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { asDiskError, isDiskFault } from './disk-errors.ts'

/**
 * Writes the file, neither atomically nor durably.
 * @param mode permission bits of a new file, less the umask
 * @throws RuntimeError resource-exhausted when the disk is full, unavailable when it takes nothing more; else what Node throws
 */
export const writeNamedFile = async (path: string, text: string, mode: number): Promise<void> => {
  try {
    await writeFile(path, text, { mode })
  } catch (error) {
    throw isDiskFault(error) ? asDiskError(error, `Cannot write "${path}"`, dirname(path)) : error
  }
}
