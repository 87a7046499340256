/** Makes directories, and renames in them, survive a power cut, without blocking the event loop. */
import { mkdir, open } from 'node:fs/promises'
import { dirname } from 'node:path'

export const syncDirectory = async (path: string): Promise<void> => {
  await using directory = await open(path, 'r')
  await directory.sync()
}

/** Makes a directory with those above it, for good: what is synced in it later is found again. Nothing happens when it is there. */
export const makeDirectory = async (path: string, mode = 0o700): Promise<void> => {
  const first = await mkdir(path, { recursive: true, mode })
  for (let above = dirname(path); ; above = dirname(above)) {
    await syncDirectory(above)
    if (first === undefined || above === dirname(first) || above === '/') return
  }
}
