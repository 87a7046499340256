/** Which program the monitors run: the compiled one, or the same bundle under Node (configuration key monitor.runtime). */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Config } from '../config/schema.ts'
import type { MonitorProgram } from './spawn-monitor.ts'

/** Where the built programs are: beside the bundle, or in dist/ when the sources run. */
const library = existsSync(join(import.meta.dirname, 'conmon.cjs'))
  ? import.meta.dirname
  : join(import.meta.dirname, '../../dist/lib')

export function monitorProgram({ runtime, path }: Config['monitor']): MonitorProgram {
  if (runtime === 'node') return { path: process.execPath, args: [path ?? join(library, 'conmon.cjs')] }
  return { path: path ?? join(dirname(library), 'bin', 'conmon'), args: [] }
}
