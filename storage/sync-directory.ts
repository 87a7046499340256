/** Makes renames in a directory survive a power cut, without blocking the event loop. */
import { open } from 'node:fs/promises'

export const syncDirectory = async (path: string): Promise<void> => {
  await using directory = await open(path, 'r')
  await directory.sync()
}
