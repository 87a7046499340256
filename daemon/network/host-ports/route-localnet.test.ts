import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deviceTo } from './route-localnet.ts'

const TABLE = [
  'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT',
  'ens3\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0',
  'cni0\t0000580A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0',
  'cali1\t0500580A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0',
  'down0\t0600580A\t00000000\t0004\t0\t0\t0\tFFFFFFFF\t0\t0\t0',
].join('\n')

test('deviceTo() is the device of the most specific route that is up', () => {
  assert.equal(deviceTo('10.88.0.5', TABLE), 'cali1')
  assert.equal(deviceTo('10.88.0.6', TABLE), 'cni0')
  assert.equal(deviceTo('10.88.200.1', TABLE), 'cni0')
  assert.equal(deviceTo('192.0.2.1', TABLE), 'ens3')
  assert.equal(deviceTo('192.0.2.1', TABLE.split('\n')[0] ?? ''), undefined)
})
