/** Which process the OCI runtime has made the container's first one. */
import { join } from 'node:path'
import { type ProcessIdentity, parentOf, processIdentity } from '#linux/proc.ts'
import { readBounded } from '#linux/read-bounded.ts'
import { monitorFiles } from '#proto/conmon.ts'
import { MonitorFailure } from './failure.ts'
import { clean } from './runtime-complaint.ts'

/**
 * The runtime reports a pid only; until it is waited for, the process is there, dead or alive. It became our child when the
 * runtime ended: whoever is not is no process of the container, and must never be killed for one.
 */
export function readInit(dir: string): ProcessIdentity {
  const path = join(dir, monitorFiles.pid)
  const text = readBounded(path, 64).toString()
  const init = /^[1-9]\d*$/.test(text) ? processIdentity(Number(text)) : undefined
  if (init === undefined || parentOf(init.pid) !== process.pid)
    throw new MonitorFailure('internal', `The runtime's pid file "${path}" names no process of it: "${clean(text)}"`)
  return init
}
