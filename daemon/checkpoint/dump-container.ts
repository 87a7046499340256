/** Has CRIU write a container's memory, through its OCI runtime; what CRIU says when it fails is part of the error. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import { isKind, RuntimeError } from '#proto/errors.ts'
import type { ContainerRecord } from '../container/container.ts'
import { runtimeCli } from '../oci/runtime-cli.ts'
import type { Parts } from '../parts.ts'
import { archiveFiles } from './archive.ts'

type Needs = Pick<Parts, 'config' | 'handlers' | 'log'>

/** Lines of CRIU's log in our own, and in the error. */
const LOG_LINES = 50
const ERROR_LINES = 10

/**
 * @param dir gets the images in a directory of their own, with CRIU's log beside it
 * @throws RuntimeError failed-precondition, or what `signal` was aborted with
 */
export async function dumpContainer(
  { config, handlers, log }: Needs,
  record: ContainerRecord,
  dir: string,
  signal: AbortSignal,
): Promise<void> {
  const imageDir = join(dir, archiveFiles.images)
  try {
    const { criu } = config.checkpoint
    await runtimeCli(handlers.of(record)).checkpoint(record.id, { imageDir, workDir: dir, criu, signal })
  } catch (error) {
    const said = await criuLog(join(dir, archiveFiles.log))
    log.warn('A checkpoint failed', { container: record.id, criu: said.slice(-LOG_LINES) })
    signal.throwIfAborted()
    if (!isKind(error, 'failed-precondition')) throw error
    throw new RuntimeError('failed-precondition', [oneLine(error.message), ...complaints(said)].join('; '), {
      cause: error,
    })
  }
}

/** What CRIU calls errors; the end of what it said when there are none. */
export function complaints(said: readonly string[]): string[] {
  const errors = said.filter((line) => /\bError \(/.test(line))
  return (errors.length > 0 ? errors : said).slice(-ERROR_LINES).map((line) => line.slice(0, 300))
}

/** Without the control characters that a container may have brought into it, in the names of its files for instance. */
export async function criuLog(path: string): Promise<string[]> {
  try {
    const text = await readFile(path, 'utf8')
    return text
      .split('\n')
      .filter((line) => line !== '')
      .map(oneLine)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return ['CRIU left no log']
    throw error
  }
}

export const oneLine = (text: string): string => text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\ufffd]+/g, ' ')
