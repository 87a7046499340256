/** crun as a second runtime handler, on every host that has it. */

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const CRUN = '/usr/bin/crun'
const UNIFIED = '/sys/fs/cgroup/unified'

export const crunSkip: false | string = existsSync(CRUN) ? false : 'host lacks crun'

/**
 * A program to configure as the handler's path. crun refuses hosts of cgroup v1 whose extra v2 tree has controllers: there it
 * is started where that tree is not mounted.
 * @returns the path, and how to take the program away again
 */
export function crunProgram(): { path: string; remove(): void } {
  if (!hasMixedControllers()) return { path: CRUN, remove: () => {} }
  const dir = mkdtempSync(join(tmpdir(), 'cricket-crun-'))
  const path = join(dir, 'crun')
  const script = `umount -l ${UNIFIED} && exec ${CRUN} "$@"`
  writeFileSync(path, `#!/bin/sh\nexec unshare --mount /bin/sh -c '${script}' crun "$@"\n`, { mode: 0o755 })
  return { path, remove: () => rmSync(dir, { recursive: true }) }
}

function hasMixedControllers(): boolean {
  const file = join(UNIFIED, 'cgroup.controllers')
  return existsSync(file) && readFileSync(file, 'utf8').trim() !== ''
}
