/**
 * Runs the pinned `buf` with this folder as its workspace. No network: the plugin and the runtime that runs it are
 * found beside `buf`, whatever node the machine has.
 */

import { execFile } from 'node:child_process'
import { delimiter, dirname, join } from 'node:path'
import { promisify } from 'node:util'

const folder = import.meta.dirname
const programs = join(folder, '..', 'node_modules', '.bin')
const path = [programs, dirname(process.execPath), process.env.PATH ?? ''].join(delimiter)

/** The standard output of `buf <args>`; throws, with its standard error as message, when buf fails. */
export const runBuf = async (args: readonly string[]): Promise<string> => {
  const options = { cwd: folder, env: { ...process.env, PATH: path }, maxBuffer: 64 * 1024 * 1024 }
  const { stdout } = await promisify(execFile)(join(programs, 'buf'), args, options)
  return stdout
}
