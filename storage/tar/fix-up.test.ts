/** What a fix-up may cost; what it is for is in layer-stack.test.ts and lower-links.test.ts. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { type FixUpRequest, fixUp } from './fix-up.ts'

/** Two layers with the same ten directories, implicit in the upper one. */
const requestIn = (t: TestContext): FixUpRequest => {
  const directory = mkdtempSync(join(tmpdir(), 'fix-up-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const implicit = Array.from({ length: 10 }, (_, i) => `d${i}`)
  const layers = ['lower', 'upper'].map((name) => {
    for (const path of implicit) mkdirSync(join(directory, name, path), { recursive: true })
    return { tree: join(directory, name), implicit: name === 'upper' ? implicit : [], isFixUp: false }
  })
  for (const name of ['made', 'given-up']) mkdirSync(join(directory, name))
  return { layers, lowerLinks: [], maxBytes: 0, maxLooks: 1000, target: join(directory, 'made') }
}

describe('a fix-up', () => {
  it('is given up when too many files would have to be looked at', (t) => {
    const request = requestIn(t)
    assert.equal(fixUp(request, () => {}).directories, 11)
    assert.throws(
      () => fixUp({ ...request, maxLooks: 15, target: join(request.target, '../given-up') }, () => {}),
      (error) => isKind(error, 'resource-exhausted'),
    )
  })

  it('can be given up by who asked', (t) => {
    const gone = new Error('gone')
    const request = { ...requestIn(t), maxLooks: 1e9 }
    const implicit = Array.from({ length: 2000 }, (_, i) => `missing/d${i}`)
    const [lower, upper] = request.layers
    assert.ok(lower !== undefined && upper !== undefined)
    const many = { ...request, layers: [lower, { ...upper, implicit }] }
    assert.throws(
      () =>
        fixUp(many, () => {
          throw gone
        }),
      gone,
    )
  })
})
