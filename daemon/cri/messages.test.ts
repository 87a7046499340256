import assert from 'node:assert/strict'
import { test } from 'node:test'
import { verboseInfo } from './messages.ts'

test('verbose information shows bytes, such as the values of variables, as text', () => {
  const { info } = verboseInfo({ envs: [{ key: 'A', value: Buffer.from('één') }], bare: new TextEncoder().encode('b') })
  assert.deepEqual(JSON.parse(info ?? ''), { envs: [{ key: 'A', value: 'één' }], bare: 'b' })
})

test('verbose information has numbers for what is a bigint here', () => {
  assert.equal(verboseInfo({ cpuShares: 1024n }).info, '{"cpuShares":1024}')
})
