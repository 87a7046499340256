/** When the pod network publishes host ports itself, and that they come and go with the attachment. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import type { Nft } from './host-ports/nft.ts'
import type { PortMapping } from './pod-network.ts'
import { chain } from './testing/fake-network.ts'
import { failure, setup } from './testing/network-setup.ts'

const paperNft = () => {
  const scripts: string[] = []
  const state = { fails: false }
  const nft: Nft = {
    isInstalled: () => true,
    require: () => {},
    async apply(script) {
      if (state.fails) throw new Error('nft is busy')
      scripts.push(script)
    },
    hasTable: async () => true,
    forgetUdp: async () => {},
  }
  return { nft, state, last: () => scripts.at(-1) ?? '', count: () => scripts.length }
}

const portMappings: PortMapping[] = [
  { hostPort: 8080, containerPort: 80, protocol: 'tcp', hostIP: '192.0.2.1' },
  { hostPort: 0, containerPort: 81, protocol: 'tcp' },
]
const ELEMENT = '192.0.2.1 . tcp . 8080 : 10.88.0.5 . 80'

test('host ports lead to the pod from ADD to before DEL', async (t) => {
  const { open, pod } = setup(t, { one: {} })
  const { nft, last } = paperNft()
  const network = open({ nft })
  const attachment = pod({ portMappings })
  await network.attach(attachment)
  assert.ok(last().includes(ELEMENT), last())
  assert.ok(last().includes('10.88.0.5/16 . 10.88.0.5'))
  await network.detach(attachment)
  assert.ok(!last().includes(ELEMENT))
})

test('a taken port is refused before ADD', async (t) => {
  const { fake, open, pod } = setup(t, { one: {} })
  const network = open({ nft: paperNft().nft })
  await network.attach(pod({ portMappings }))
  const error = await failure(network.attach(pod({ portMappings })))
  assert.ok(isKind(error, 'failed-precondition'))
  assert.deepEqual(fake.sequence(), ['ADD one'])
})

test('where a plugin maps ports nothing is done', async (t) => {
  const { fake, open, pod } = setup(t, { one: {} })
  fake.config('10-fake.conflist', {
    ...chain(),
    plugins: [{ type: 'one', capabilities: { portMappings: true } }],
  })
  const { nft, count } = paperNft()
  const network = open({ nft })
  const attachment = pod({ portMappings })
  await network.attach(attachment)
  await network.attach(pod({ portMappings }))
  await network.detach(attachment)
  assert.equal(count(), 0)
})

test('a port is free again when its pod could not be attached, or its rules not be written', async (t) => {
  const { fake, open, pod } = setup(t, { one: { ADD: [{ do: 'error', code: 1, msg: 'no' }] } })
  const { nft, state } = paperNft()
  const network = open({ nft })
  await failure(network.attach(pod({ portMappings })))
  fake.plugin('one')
  state.fails = true
  assert.match((await failure(network.attach(pod({ portMappings })))).message, /nft is busy/)
  assert.deepEqual(fake.sequence().slice(-2), ['ADD one', 'DEL one'])
  state.fails = false
  await network.attach(pod({ portMappings }))
})

test('the port is free while its pod cannot be detached, and the address is not given back while rules lead to it', async (t) => {
  const { fake, open, pod } = setup(t, { one: { DEL: [{ do: 'error', code: 1, msg: 'stuck' }] } })
  const { nft, state } = paperNft()
  const network = open({ nft, pauses: { firstPauseMs: 60_000 } })
  const first = pod({ portMappings })
  await network.attach(first)
  state.fails = true
  assert.match((await failure(network.detach(first))).message, /nft is busy/)
  assert.deepEqual(fake.sequence(), ['ADD one'])
  state.fails = false
  await failure(network.detach(first))
  await network.attach(pod({ portMappings }))
})

test('after a restart ports lead to attached sandboxes and to no others', async (t) => {
  const { open, pod } = setup(t, { one: {} })
  const before = open({ nft: paperNft().nft })
  const [kept, gone] = [
    pod({ portMappings }),
    pod({ portMappings: [{ hostPort: 9, containerPort: 9, protocol: 'udp' }] }),
  ]
  await before.attach(kept)
  await before.attach(gone)
  const { nft, last } = paperNft()
  const network = open({ nft })
  await network.resume((id) => (id === kept.sandboxId ? 'attached' : 'gone'))
  assert.ok(last().includes(ELEMENT))
  assert.ok(!last().includes('udp . 9'))
  assert.match((await failure(network.attach(pod({ portMappings })))).message, /taken by sandbox/)
})

test('what is no port or address is refused, whoever would map it', async (t) => {
  const { fake, open, pod } = setup(t, { one: {} })
  fake.config('10-fake.conflist', { ...chain(), plugins: [{ type: 'one', capabilities: { portMappings: true } }] })
  const network = open({ nft: paperNft().nft })
  for (const bad of [{ hostPort: -1 }, { hostPort: 65536 }, { containerPort: 0 }, { hostIP: '10.0.0' }]) {
    const mapping: PortMapping = { hostPort: 80, containerPort: 80, protocol: 'tcp', ...bad }
    const error = await failure(network.attach(pod({ portMappings: [mapping] })))
    assert.ok(isKind(error, 'invalid-argument'), error.message)
  }
  assert.deepEqual(fake.sequence(), [])
})
