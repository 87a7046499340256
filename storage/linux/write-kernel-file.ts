/** Writes a value to a file of the kernel (cgroup, sysctl, /proc), which takes it in one piece or refuses it. */
import { closeSync, constants, openSync, writeSync } from 'node:fs'
import { LinuxError } from './errno.ts'

/** Writes with a single write(2); never creates the file. Throws what open and write throw. */
export const writeKernelFile = (path: string, value: string): void => {
  const bytes = Buffer.from(value)
  const fd = openSync(path, constants.O_WRONLY | constants.O_TRUNC | constants.O_NONBLOCK | constants.O_NOFOLLOW)
  try {
    const written = writeSync(fd, bytes)
    if (written !== bytes.length) throw new LinuxError('EIO', 'write', path, `took ${written} of ${bytes.length} bytes`)
  } finally {
    closeSync(fd)
  }
}
