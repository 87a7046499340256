import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openStage, until } from '../testing/stage.ts'

const SUCCESS = { metadata: {}, status: 'Success' }

test('exec over SPDY: output, error output and success', async (t) => {
  const stage = await openStage(t)
  const client = await stage.spdy(stage.exec(['echo', 'out', 'err'], { stdin: false }))
  const { error, stdout, stderr } = await client.openAll('error', 'stdout', 'stderr')
  assert.equal(await stdout.whole(), 'out')
  assert.equal(await stderr.whole(), 'err')
  assert.deepEqual(JSON.parse(await error.whole()), SUCCESS)
  assert.ok(stdout.replied && stdout.ended && stdout.resetBy === undefined)
  await until('GOAWAY', () => client.goAway === 0)
})
