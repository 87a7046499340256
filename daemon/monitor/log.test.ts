import { rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { after, test } from 'node:test'
import { logSuite } from './testing/log-suite.ts'
import { bundled, compiled, fakeRig, fromSources, isBuilt } from './testing/rigs.ts'

const rigs = [
  { ...fakeRig('sources', fromSources), program: fromSources, rotations: 100 },
  { ...fakeRig('bundle', bundled), program: bundled, rotations: 100 },
  { ...fakeRig('executable', compiled), program: compiled, rotations: 1000 },
]
after(() => {
  for (const { runtimePath } of rigs) rmSync(dirname(runtimePath), { recursive: true })
})

for (const { rotations, ...rig } of rigs) {
  if (isBuilt(rig.program)) logSuite(rig, { rotations })
  else test(`log (${rig.name})`, (t) => t.skip(`dist lacks it`))
}
