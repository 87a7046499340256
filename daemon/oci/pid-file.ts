/** The file into which an OCI runtime writes the pid of a command once it runs: the sign that it does. */
import { readFileSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { isErrno } from '#linux/errno.ts'

let commands = 0

/** @param dir the container's own directory on tmpfs, which goes with the container. Of this process, so that no two are the same. */
export const nextPidFile = (dir: string): string => join(dir, `exec-${process.pid}-${++commands}.pid`)

/** undefined: it was never written. On tmpfs, where this takes microseconds: less than waking a thread for it. */
export function readPid(file: string): number | undefined {
  try {
    const pid = Number.parseInt(readFileSync(file, 'utf8'), 10)
    return Number.isSafeInteger(pid) && pid > 1 ? pid : undefined
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
}

/** As `readPid`; the file is gone then. */
export function takePid(file: string): number | undefined {
  const pid = readPid(file)
  try {
    unlinkSync(file)
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
  }
  return pid
}
