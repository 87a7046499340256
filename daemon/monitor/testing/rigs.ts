/** The monitors and runtimes there are to test: from sources under Node, bundled under Node, compiled; runc, and the fake one. */
import { chmodSync, existsSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { MonitorProgram } from '../spawn-monitor.ts'
import type { Rig } from './monitored.ts'

const top = join(import.meta.dirname, '../../..')
const runc = '/usr/sbin/runc'

export const fromSources: MonitorProgram = { path: process.execPath, args: [join(top, 'conmon/main.ts')] }
export const bundled: MonitorProgram = { path: process.execPath, args: [join(top, 'dist/lib/conmon.cjs')] }
export const compiled: MonitorProgram = { path: join(top, 'dist/bin/conmon'), args: [] }

export const runcRig = (name: string, program: MonitorProgram): Rig => ({
  name: `${name}, runc`,
  program,
  runtimePath: runc,
  real: true,
})

/** The fake runtime as a program of its own: a runtime gets no environment in which a Node could be looked for. */
export function fakeRig(name: string, program: MonitorProgram): Rig {
  const path = join(mkdtempSync(join(tmpdir(), 'cricket-fake-runtime-')), 'fake-runtime')
  writeFileSync(path, `#!/bin/sh\nexec '${process.execPath}' '${join(top, 'conmon/testing/fake-runtime.mjs')}' "$@"\n`)
  chmodSync(path, 0o755)
  return { name: `${name}, fake runtime`, program, runtimePath: path, real: false }
}

export const isBuilt = (program: MonitorProgram): boolean =>
  [program.path, ...program.args].every((path) => existsSync(path))
