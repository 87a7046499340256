import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { blockDeviceName } from './block-devices.ts'
import { countDescriptors } from './descriptor-census.ts'
import { heldFiles } from './held-file.ts'
import { createNamespaces, unpinNamespace } from './namespaces.ts'
import { defaultInterface, defaultInterfaceOf, netCounters, parseNetDev } from './net-counters.ts'
import { setLinkUp } from './netdev.ts'
import { scratch } from './testing/scratch.ts'

const captured = (name: string): string => readFileSync(join(import.meta.dirname, 'testdata/net', name), 'latin1')

test('the counters of each interface, whatever its name', () => {
  assert.deepEqual(parseNetDev(captured('dev')).slice(1), [
    {
      name: 'net1',
      received: { bytes: 123456, packets: 100, errors: 1, dropped: 2 },
      sent: { bytes: 65432, packets: 90, errors: 3, dropped: 4 },
    },
    {
      name: 'eth0:99',
      received: { bytes: 5368709120, packets: 7, errors: 0, dropped: 0 },
      sent: { bytes: 8, packets: 1, errors: 0, dropped: 0 },
    },
  ])
})

test('the default route of the lowest metric counts, and that of version 6 where version 4 has none', () => {
  assert.equal(defaultInterface(captured('route'), captured('ipv6_route')), 'net1')
  assert.equal(defaultInterface('', captured('ipv6_route')), 'eth0')
  assert.equal(defaultInterface('', ''), undefined)
})

test('a network namespace is read from outside once it was opened, and one that is gone tells nothing', (t) => {
  const pin = join(scratch(t), 'net')
  createNamespaces({ kinds: ['net'], pins: { net: pin }, inside: () => setLinkUp('lo') })
  t.after(() => unpinNamespace(pin))
  const before = heldFiles()
  const counters = netCounters(pin)
  t.after(() => counters.close())
  const names = () => counters.read()?.map(({ name }) => name)
  assert.deepEqual(names(), ['lo'])
  assert.deepEqual([names(), heldFiles()], [['lo'], before + 1])
  assert.equal(defaultInterfaceOf(pin), undefined)
  counters.close()
  unpinNamespace(pin)
  assert.deepEqual([counters.read(), defaultInterfaceOf(pin), heldFiles()], [undefined, undefined, before])
  writeFileSync(pin, '')
  assert.deepEqual([counters.read(), defaultInterfaceOf(pin)], [undefined, undefined])
})

test("the host's own interfaces are told without a pin", (t) => {
  const counters = netCounters()
  t.after(() => counters.close())
  assert.ok(counters.read()?.some(({ name }) => name === 'lo'))
})

test('open files and sockets of processes are counted, those of a process that is gone are none', async (t) => {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const mine = await countDescriptors([process.pid])
  assert.ok(mine.descriptors > 3 && mine.sockets > 0 && mine.sockets < mine.descriptors)
  const child = spawn('sleep', ['1000'], { stdio: 'ignore' })
  await once(child, 'spawn')
  const { pid } = child
  assert.ok(pid !== undefined)
  t.after(() => child.kill('SIGKILL'))
  const { descriptors, sockets } = await countDescriptors([pid])
  assert.ok(descriptors >= 3 && sockets === 0)
  assert.deepEqual(await countDescriptors([pid, pid]), { descriptors: 2 * descriptors, sockets: 0 })
  child.kill('SIGKILL')
  await once(child, 'exit')
  assert.deepEqual(await countDescriptors([pid, 2 ** 22 + 1]), { descriptors: 0, sockets: 0 })
})

test('a block device is known by its name, one without a name by its numbers', () => {
  assert.equal(blockDeviceName(4095, 7), '4095:7')
})
