import { rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { after, test } from 'node:test'
import { hangSuite } from './testing/hang-suite.ts'
import { bundled, compiled, fakeRig, fromSources, isBuilt } from './testing/rigs.ts'

const rigs = [fakeRig('sources', fromSources), fakeRig('bundle', bundled), fakeRig('executable', compiled)]
after(() => {
  for (const { runtimePath } of rigs) rmSync(dirname(runtimePath), { recursive: true })
})

for (const rig of rigs) {
  if (isBuilt(rig.program)) hangSuite(rig)
  else test(`a log's disk that hangs (${rig.name})`, (t) => t.skip(`dist lacks it`))
}
