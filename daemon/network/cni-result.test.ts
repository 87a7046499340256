import assert from 'node:assert/strict'
import { test } from 'node:test'
import { networkResult } from './cni-result.ts'

const pod = (name: string) => ({ name, mac: '02:00:00:00:00:01', sandbox: '/ns' })

test('networkResult() gives addresses without mask, those of eth0 first', () => {
  const result = networkResult({
    cniVersion: '1.0.0',
    interfaces: [{ name: 'cni0', mac: '' }, pod('net1'), pod('eth0')],
    ips: [
      { address: '192.168.7.7/24', interface: 1 },
      { address: '10.88.0.5/16', interface: 2 },
      { address: 'fd00::5/64', interface: 2 },
      { address: '10.88.0.1/16', interface: 0 },
      { address: '10.88.0.5/16', interface: 2 },
    ],
    dns: { nameservers: ['10.96.0.10'], search: null },
  })
  assert.deepEqual(result.ips, ['10.88.0.5', 'fd00::5', '192.168.7.7'])
  assert.deepEqual(result.interfaces[0], { name: 'cni0' })
  assert.deepEqual(result.interfaces[2], pod('eth0'))
  assert.deepEqual(result.dns, { nameservers: ['10.96.0.10'], search: [], options: [] })
})

test('networkResult() takes addresses that name no interface, as 0.3.x plugins give them', () => {
  const result = networkResult({
    cniVersion: '0.3.1',
    ips: [{ version: '4', address: '10.1.2.3/24' }],
    interfaces: null,
  })
  assert.deepEqual(result.ips, ['10.1.2.3'])
})

test('networkResult() refuses results without or with impossible addresses', () => {
  assert.throws(() => networkResult({}), { kind: 'internal', message: /no IP address/ })
  assert.throws(() => networkResult({ ips: [] }), { kind: 'internal' })
  assert.throws(() => networkResult({ ips: [{ address: '10.0.0.300/24' }] }), { message: /"10\.0\.0\.300\/24"/ })
  assert.throws(
    () => networkResult({ interfaces: [{ name: 'cni0' }], ips: [{ address: '10.0.0.1/24', interface: 0 }] }),
    {
      kind: 'internal',
    },
  )
})
