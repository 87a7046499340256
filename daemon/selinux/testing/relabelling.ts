/** The helper as it runs from the sources, and a log that is a list. */
import { join } from 'node:path'
import { linux } from '#linux/linux.ts'
import type { Log } from '#proto/log.ts'
import type { Relabelling } from '../relabel.ts'

const COMMAND = join(import.meta.dirname, '../relabel-command.ts')
const SOURCE: [string, ...string[]] = [
  process.execPath,
  '-e',
  `import(${JSON.stringify(COMMAND)}).then(({ relabelCommand }) => relabelCommand())`,
]

export const makeRelabelling = (helper: [string, ...string[]] = SOURCE): { options: Relabelling; said: string[] } => {
  const said: string[] = []
  const log: Log = {
    child: () => log,
    debug: () => {},
    info: (message, fields = {}) => said.push([message, ...Object.values(fields)].join(' ')),
    warn: () => {},
    error: () => {},
  }
  return { options: { linux, log, helper }, said }
}
