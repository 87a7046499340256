import { rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { after, test } from 'node:test'
import { attachSuite } from './testing/attach-suite.ts'
import { bundled, compiled, fakeRig, fromSources, isBuilt, runcRig } from './testing/rigs.ts'

const fake = fakeRig('sources', fromSources)
after(() => rmSync(dirname(fake.runtimePath), { recursive: true }))

attachSuite(fake)
for (const [name, program] of [
  ['bundle', bundled],
  ['executable', compiled],
] as const) {
  if (isBuilt(program)) attachSuite(runcRig(name, program))
  else test(`attaching (${name}, runc)`, (t) => t.skip(`dist lacks the ${name}`))
}
