/** The properties of the codecs for 100,000 inputs each; codecs.test.ts checks some hundred of them in every run. */
import { test } from 'node:test'
import fc from 'fast-check'
import { codecProperties } from '../testing/codec-properties.ts'

for (const [sentence, property] of Object.entries(codecProperties))
  test(`${sentence}, 100,000 times`, () => fc.assert(property, { numRuns: 100_000 }))
