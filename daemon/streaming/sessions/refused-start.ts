/** A command that the OCI runtime could not start: told as a shell tells it, by exit code and a line of text, where that is all there is to it. */
import { closeSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { posix } from 'node:path'
import * as z from 'zod'
import { isErrno } from '#linux/errno.ts'
import type { Linux } from '#linux/linux.ts'
import type { ProcessIdentity } from '#linux/proc.ts'
import { ProcessSpec } from '../../oci/exec-command.ts'

const NOT_FOUND = 127
const NOT_EXECUTABLE = 126
const O_PATH = 0o10000000

const Spec = z.object({ process: ProcessSpec })

/** What each command in the container begins with, from the container's config.json. */
export const readProcessSpec = async (path: string): Promise<ProcessSpec> =>
  Spec.parse(JSON.parse(await readFile(path, 'utf8'))).process

/** The runtime's words differ from runtime to runtime; whether there is such a file in the container does not. */
export const refusalCode = (
  linux: Linux,
  init: ProcessIdentity,
  { cwd, env }: ProcessSpec,
  [program = '']: readonly string[],
): number => {
  const candidates = program.includes('/')
    ? [posix.resolve(cwd, program)]
    : searchPath(env).map((directory) => posix.resolve(cwd, directory, program))
  return candidates.some((path) => existsInside(linux, init, path)) ? NOT_EXECUTABLE : NOT_FOUND
}

const searchPath = (env: readonly string[]): string[] => {
  const path = env.findLast((entry) => entry.startsWith('PATH='))
  return path === undefined ? [] : path.slice('PATH='.length).split(':')
}

/** Nothing is opened for reading, and no link leads out. */
const existsInside = (linux: Linux, { pid }: ProcessIdentity, path: string): boolean => {
  try {
    closeSync(linux.openInRoot(`/proc/${pid}/root`, path, O_PATH))
    return true
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG', 'EACCES', 'ESRCH')) return false
    throw error
  }
}
