import { rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { after, test } from 'node:test'
import { containedSuite } from './testing/contained-suite.ts'
import { monitorSuite } from './testing/monitor-suite.ts'
import { bundled, compiled, fakeRig, fromSources, isBuilt, runcRig } from './testing/rigs.ts'

const fake = fakeRig('sources', fromSources)
after(() => rmSync(dirname(fake.runtimePath), { recursive: true }))

monitorSuite(runcRig('sources', fromSources))
monitorSuite(fake)
containedSuite(runcRig('sources', fromSources))
for (const [name, program] of [
  ['bundle', bundled],
  ['executable', compiled],
] as const) {
  if (isBuilt(program)) {
    monitorSuite(runcRig(name, program))
    containedSuite(runcRig(name, program))
  } else test(`monitor (${name}, runc)`, (t) => t.skip(`dist lacks the ${name}`))
}
