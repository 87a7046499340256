import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { silentLog } from '#proto/log.ts'
import type { PortMapping } from '../attachment.ts'
import { type HostPorts, openHostPorts } from './host-ports.ts'
import { type Nft, openNft } from './nft.ts'
import { routeLocalnetTo } from './route-localnet.ts'
import type { PodAddress } from './rules.ts'
import { type Lab, makeLab, missingForLab } from './testing/lab.ts'

const WEB: PodAddress[] = [
  { family: 4, address: '10.55.0.2', prefixLength: 24 },
  { family: 6, address: 'fd55::2', prefixLength: 64 },
]

const tcp = (hostPort: number, hostIP?: string): PortMapping => ({
  hostPort,
  containerPort: 80,
  protocol: 'tcp',
  ...(hostIP !== undefined && { hostIP }),
})

/** Host ports of the lab's node. */
const onNode = (lab: Lab, options: { checkEveryMs?: number } = {}): HostPorts =>
  openHostPorts({
    nft: openNft({ runCommand: lab.runIn('node') }),
    table: 'cricket',
    log: silentLog,
    openLoopback: (address) => void lab.inside('node', () => routeLocalnetTo(address)),
    ...options,
  })

const tableOf = async (lab: Lab): Promise<string> =>
  (await lab.runIn('node')('/usr/sbin/nft', ['list', 'ruleset'])).stdout.toString()

const DISGUISE = `table ip disguise {
  chain out { type filter hook postrouting priority 300; ip daddr 198.51.100.1 ip daddr set 127.0.0.1; }
  chain in { type filter hook prerouting priority -400; ip saddr 127.0.0.1 ip saddr set 198.51.100.1; }
}
`

const needsLab = missingForLab()
const skip = needsLab === undefined ? false : `host lacks ${needsLab}`

test('a published port is reached from everywhere, with the client address where that can be kept', {
  skip,
}, async (t) => {
  const lab = makeLab(t)
  await lab.serve('web', 80)
  const ports = onNode(lab)
  t.after(() => ports.close())
  ports.reserve('one', [tcp(8080), { ...tcp(8053), protocol: 'udp' }])
  assert.equal(lab.ask('stranger', '192.0.2.1', 8080), undefined)
  await ports.publish('one', WEB)
  assert.equal(lab.ask('stranger', '192.0.2.1', 8080), '192.0.2.2')
  assert.equal(lab.ask('stranger', '2001:db8::1', 8080), '2001:db8::2')
  assert.equal(lab.ask('stranger', '192.0.2.1', 8053, 'udp'), '192.0.2.2')
  assert.equal(lab.ask('stranger', '2001:db8::1', 8053, 'udp'), '2001:db8::2')
  // From the node itself: by its address, and by loopback.
  assert.equal(lab.ask('node', '192.0.2.1', 8080), '192.0.2.1')
  assert.equal(lab.ask('node', '127.0.0.1', 8080), '10.55.0.1')
  assert.equal(lab.ask('node', '2001:db8::1', 8080), '2001:db8::1')
  // From a neighbour and from the pod itself: answers must come back the way the questions went.
  assert.equal(lab.ask('neighbour', '192.0.2.1', 8080), '10.55.0.1')
  assert.equal(lab.ask('web', '192.0.2.1', 8080), '10.55.0.1')
  assert.equal(lab.ask('web', '2001:db8::1', 8080), 'fd55::1')
  assert.equal(lab.ask('neighbour', '192.0.2.1', 8053, 'udp'), '10.55.0.1')
  // ::1 cannot lead anywhere; it must be refused, not hang.
  assert.equal(lab.ask('node', '::1', 8080), undefined)

  await ports.withdraw('one')
  assert.equal(lab.ask('stranger', '192.0.2.1', 8080), undefined)
  assert.doesNotMatch(await tableOf(lab), /cricket/)
})

const noConntrack = existsSync('/usr/sbin/conntrack') ? skip : skip || 'host lacks conntrack'

test('a UDP client that began before the port was published is led to the pod', { skip: noConntrack }, async (t) => {
  const lab = makeLab(t)
  await lab.serve('web', 80)
  const ports = onNode(lab)
  t.after(() => ports.close())
  // Only now are flows tracked.
  ports.reserve('other', [tcp(8080)])
  await ports.publish('other', WEB)
  const early = [await lab.insist('stranger', '192.0.2.1', 8053), await lab.insist('stranger', '2001:db8::1', 8053)]
  ports.reserve('one', [{ ...tcp(8053), protocol: 'udp' }])
  await ports.publish('one', WEB)
  assert.deepEqual(await Promise.all(early.map(({ answer }) => answer)), ['192.0.2.2', '2001:db8::2'])
})

test('a port of one host address is that address only', { skip }, async (t) => {
  const lab = makeLab(t)
  await lab.serve('web', 80)
  await lab.serve('neighbour', 80)
  const ports = onNode(lab)
  t.after(() => ports.close())
  ports.reserve('one', [tcp(8080, '127.0.0.1')])
  ports.reserve('two', [tcp(8080, '192.0.2.1')])
  await Promise.all([
    ports.publish('one', WEB),
    ports.publish('two', [{ family: 4, address: '10.55.0.3', prefixLength: 24 }]),
  ])
  assert.equal(lab.ask('stranger', '192.0.2.1', 8080), '192.0.2.2')
  assert.equal(lab.ask('node', '127.0.0.1', 8080), '10.55.0.1')
  await ports.withdraw('two')
  assert.equal(lab.ask('stranger', '192.0.2.1', 8080), undefined)
  assert.equal(lab.ask('node', '127.0.0.1', 8080), '10.55.0.1')
  assert.equal(lab.ask('neighbour', '10.55.0.1', 8080), undefined)
})

test('what listens on loopback of the node stays out of reach of pods and strangers', { skip }, async (t) => {
  const lab = makeLab(t)
  await lab.serve('node', 9000)
  const ports = onNode(lab)
  t.after(() => ports.close())
  ports.reserve('one', [tcp(8080)])
  await ports.publish('one', WEB)
  // As a pod with CAP_NET_RAW can: put 127.0.0.1 where 198.51.100.1 was in what it sends, and back in what it gets.
  await lab.runIn('web')('/usr/sbin/nft', ['-f', '-'], { input: DISGUISE })
  assert.equal(lab.ask('web', '198.51.100.1', 9000), undefined)
  // The same without the guard does get through, so that the line above says something.
  await lab.runIn('node')('/usr/sbin/nft', ['flush', 'chain', 'inet', 'cricket', 'guard'])
  assert.equal(lab.ask('web', '198.51.100.1', 9000), '10.55.0.2')
})

test('a table that somebody flushed comes back, and the table of an earlier life is replaced', { skip }, async (t) => {
  const lab = makeLab(t)
  await lab.serve('web', 80)
  const before = onNode(lab)
  before.reserve('gone', [tcp(7000)])
  before.reserve('one', [tcp(8080)])
  await before.publish('gone', WEB)
  await before.publish('one', WEB)
  before.close()

  const ports = onNode(lab, { checkEveryMs: 50 })
  t.after(() => ports.close())
  await ports.replaceAll(new Map([['one', { mappings: [tcp(8080)], addresses: WEB }]]))
  assert.equal(lab.ask('stranger', '192.0.2.1', 7000), undefined)
  assert.equal(lab.ask('stranger', '192.0.2.1', 8080), '192.0.2.2')
  assert.throws(() => ports.reserve('two', [tcp(8080)]), /taken by sandbox "one"/)
  await lab.runIn('node')('/usr/sbin/nft', ['flush', 'ruleset'])
  while (lab.ask('stranger', '192.0.2.1', 8080) === undefined) await new Promise((resolve) => setTimeout(resolve, 20))
  await ports.replaceAll(new Map())
  assert.doesNotMatch(await tableOf(lab), /cricket/)
})

/** Keeps what it was given; fails as often as told. */
const paperNft = (fields: Partial<Nft> = {}) => {
  const scripts: string[] = []
  const nft: Nft = {
    isInstalled: () => true,
    require: () => {},
    apply: async (script) => void scripts.push(script),
    hasTable: async () => true,
    forgetUdp: async () => {},
    ...fields,
  }
  return { nft, scripts }
}

const onPaper = (nft: Nft) => openHostPorts({ nft, table: 'cricket', log: silentLog, openLoopback: () => {} })

test('a port that another sandbox has is refused, until it is withdrawn', async () => {
  const ports = onPaper(paperNft().nft)
  ports.reserve('one', [tcp(8080)])
  const refused = (error: Error) =>
    isKind(error, 'failed-precondition') &&
    error.message === 'Host tcp port 8080 of 127.0.0.1 is taken by sandbox "one"'
  assert.throws(() => ports.reserve('two', [tcp(8080, '127.0.0.1')]), refused)
  ports.reserve('one', [tcp(8080)])
  await ports.withdraw('one')
  ports.reserve('two', [tcp(8080)])
  assert.throws(
    () => ports.reserve('three', [tcp(80), { ...tcp(80), containerPort: 81 }]),
    (error: Error) => isKind(error, 'invalid-argument'),
  )
  ports.close()
})

test('without nft a pod with host ports is refused, and no other', async () => {
  const missing = () => {
    throw new Error('no nft')
  }
  const ports = onPaper(paperNft({ isInstalled: () => false, require: missing, apply: async () => missing() }).nft)
  assert.throws(() => ports.reserve('one', [tcp(8080)]), /no nft/)
  ports.reserve('two', [])
  await ports.publish('two', WEB)
  await ports.withdraw('two')
  await ports.replaceAll(new Map())
  ports.close()
})

test('changes that come together are written together; a withdrawal that fails can be repeated', async () => {
  let fails = false
  const { nft, scripts } = paperNft()
  const apply = nft.apply
  nft.apply = async (script) => {
    if (fails) throw new Error('busy')
    await apply(script)
  }
  const ports = onPaper(nft)
  const ids = Array.from({ length: 20 }, (_, n) => `pod${n}`)
  for (const [n, id] of ids.entries()) ports.reserve(id, [tcp(8000 + n)])
  await Promise.all(ids.map((id) => ports.publish(id, WEB)))
  assert.ok(scripts.length <= 2, `${scripts.length} transactions`)
  assert.match(scripts.at(-1) ?? '', /tcp \. 8019/)
  fails = true
  await assert.rejects(ports.withdraw('pod0'), /busy/)
  assert.throws(() => ports.reserve('other', [tcp(8000)]), /taken/)
  fails = false
  await ports.withdraw('pod0')
  assert.doesNotMatch(scripts.at(-1) ?? '', /tcp \. 8000/)
  ports.close()
})
