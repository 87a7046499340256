import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { linux } from '#linux/linux.ts'
import { adoptOrphans } from './reap-orphans.ts'

test('orphans are adopted and reaped; children of our own keep their exit codes', async () => {
  adoptOrphans(linux)
  const parent = spawn('/bin/sh', ['-c', 'sleep 0.2 & echo $!; exit 7'], { stdio: ['ignore', 'pipe', 'ignore'] })
  let out = ''
  parent.stdout.on('data', (chunk) => {
    out += chunk
  })
  const code = await new Promise((resolve) => parent.once('exit', resolve))
  assert.equal(code, 7)
  await sleep(50)
  const orphan = Number.parseInt(out, 10)
  assert.equal(linux.parentOf(orphan), process.pid)
  await sleep(2_000)
  assert.equal(linux.parentOf(orphan), undefined)
  assert.deepEqual(linux.reapableChildren(), [])
})
