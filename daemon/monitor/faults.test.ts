import { rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { after, test } from 'node:test'
import { faultSuite } from './testing/fault-suite.ts'
import { bundled, compiled, fakeRig, fromSources, isBuilt } from './testing/rigs.ts'

for (const [name, program] of [
  ['sources', fromSources],
  ['bundle', bundled],
  ['executable', compiled],
] as const) {
  if (!isBuilt(program)) test(`monitor of runtimes that fail (${name})`, (t) => t.skip(`dist lacks the ${name}`))
  else {
    const rig = fakeRig(name, program)
    after(() => rmSync(dirname(rig.runtimePath), { recursive: true }))
    faultSuite(rig)
  }
}
