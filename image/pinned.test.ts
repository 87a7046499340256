import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { pinnedBy } from './pinned.ts'

const digest = `sha256:${'a'.repeat(64)}`
const image = {
  pinned: false,
  repoTags: ['registry.k8s.io/pause:3.10', 'r.example:5000/team/app:1'],
  repoDigests: [`r.example:5000/team/app@${digest}`],
}

describe('an image is kept', () => {
  const cases: [patterns: string[], expected: boolean][] = [
    [[], false],
    [['registry.k8s.io/pause:3.10'], true],
    [['registry.k8s.io/pause'], true],
    [['registry.k8s.io/pause:3.1'], false],
    [['registry.k8s.io/paus'], false],
    [['pause'], false],
    [['*pause'], true],
    [['*pause*'], true],
    [['r.example:5000/team/*'], true],
    [['r.example:5000/*/app'], true],
    [['r.example:5000/*/*/app'], false],
    [['r.example:5000'], false],
    [[`*@${digest}`], true],
    [['*'], true],
    [[''], false],
    [['other', 'registry.*.io/pause'], true],
    // No pattern has its parts overlap.
    [['registry.k8s.io/pause*pause'], false],
  ]
  for (const [patterns, expected] of cases)
    it(`${expected ? 'by' : 'not by'} ${JSON.stringify(patterns)}`, () =>
      assert.equal(pinnedBy(patterns)(image), expected))

  it('when it came so, whatever the patterns', () => {
    assert.equal(pinnedBy([])({ ...image, pinned: true }), true)
    assert.equal(pinnedBy(['other'])({ ...image, pinned: true }), true)
  })
})
