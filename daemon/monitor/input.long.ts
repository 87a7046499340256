/** `npm run test:long`: ten gigabytes of input reach a container that reads, and cost its monitor no memory. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { Monitored } from './testing/monitored.ts'
import { compiled, isBuilt, runcRig } from './testing/rigs.ts'

const total = 10 * 1024 ** 3

/** In memory of its own, in bytes. */
function residentBytes(pid: number): number {
  const kilobytes = /^RssAnon:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]
  return Number(kilobytes) * 1024
}

test('ten gigabytes of input arrive, and cost the monitor no memory', async (t) => {
  if (!isBuilt(compiled)) return t.skip('dist lacks the executable')
  await using box = new Monitored(runcRig('executable', compiled), { command: 'wc -c', stdin: true, stdinOnce: true })
  const client = await box.start()
  const stream = await client.attach({ stdin: true, stdout: false, stderr: false })
  const { stdin } = stream
  assert.ok(stdin)
  const before = residentBytes(client.pid)
  let most = before
  const block = Buffer.alloc(1024 * 1024, 'x')
  for (let sent = 0; sent < total; sent += block.length) {
    if (!stdin.write(block)) await once(stdin, 'drain')
    if (sent % (64 * block.length) === 0) most = Math.max(most, residentBytes(client.pid))
  }
  stdin.end()
  assert.equal((await client.exited).code, 0)
  // Busybox counts in 32 bits.
  assert.equal(box.output('stdout').toString(), `${total % 2 ** 32}\n`)
  t.diagnostic(`the monitor grew by ${((most - before) / 1e6).toFixed(1)} MB`)
  assert.ok(most - before < 16 * 1024 * 1024, `the monitor has grown by ${most - before} bytes`)
})
