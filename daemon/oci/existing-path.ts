/** Where a path leads, once it is there. */
import { mkdir, realpath } from 'node:fs/promises'
import { isErrno } from '#linux/errno.ts'

/** The path without its links. @param mayMake whether a directory is made where there is nothing */
export async function existingPath(path: string, mayMake: boolean): Promise<string> {
  try {
    return await realpath(path)
  } catch (error) {
    if (!mayMake || !isErrno(error, 'ENOENT')) throw error
    await mkdir(path, { recursive: true, mode: 0o755 })
    return realpath(path)
  }
}
