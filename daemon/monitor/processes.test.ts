import { rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { after, test } from 'node:test'
import { processSuite } from './testing/process-suite.ts'
import { bundled, compiled, fakeRig, fromSources, isBuilt, runcRig } from './testing/rigs.ts'

const fake = fakeRig('sources', fromSources)
after(() => rmSync(dirname(fake.runtimePath), { recursive: true }))

processSuite(fake, { children: 200 })
for (const { name, program, children } of [
  { name: 'bundle', program: bundled, children: 1000 },
  { name: 'executable', program: compiled, children: 10_000 },
]) {
  if (isBuilt(program)) processSuite(runcRig(name, program), { children })
  else test(`monitor among processes (${name})`, (t) => t.skip(`dist lacks the ${name}`))
}
