import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import type { PortMapping } from '../attachment.ts'
import { claimsOf, overlap } from './claim.ts'

const mapping = (hostIP?: string, fields: Partial<PortMapping> = {}): PortMapping => ({
  hostPort: 8080,
  containerPort: 80,
  protocol: 'tcp',
  ...(hostIP !== undefined && { hostIP }),
  ...fields,
})

const families = (hostIP?: string) => claimsOf(mapping(hostIP)).map(({ family, hostIP: address }) => [family, address])

test('a host address decides for which addresses a mapping stands', () => {
  assert.deepEqual(families(), [
    [4, undefined],
    [6, undefined],
  ])
  assert.deepEqual(families('0.0.0.0'), [[4, undefined]])
  assert.deepEqual(families('::'), [[6, undefined]])
  assert.deepEqual(families('10.0.0.1'), [[4, '10.0.0.1']])
  assert.deepEqual(families('2001:DB8:0:0::1'), [[6, '2001:db8::1']])
})

test('what is no address or port is refused by field and value', () => {
  for (const [bad, message] of [
    [mapping('localhost'), /host_ip "localhost"/],
    [mapping('fe80::1%eth0'), /host_ip "fe80::1%eth0"/],
    [mapping('10.0.0.1; drop'), /host_ip/],
    [mapping(undefined, { hostPort: 70000 }), /host_port 70000/],
    [mapping(undefined, { containerPort: 0 }), /container_port 0/],
    [mapping(undefined, { containerPort: -1 }), /container_port -1/],
  ] as const) {
    assert.throws(
      () => claimsOf(bad),
      (error: Error) => isKind(error, 'invalid-argument') && message.test(error.message),
    )
  }
})

test('claims overlap when a packet could be meant for either', () => {
  const meet = (one: PortMapping, other: PortMapping): boolean =>
    claimsOf(one).some((a) => claimsOf(other).some((b) => overlap(a, b)))
  assert.ok(meet(mapping(), mapping()))
  assert.ok(meet(mapping(), mapping('10.0.0.1')))
  assert.ok(meet(mapping('::'), mapping()))
  assert.ok(meet(mapping('2001:db8::1'), mapping('2001:db8:0::1')))
  assert.ok(!meet(mapping('10.0.0.1'), mapping('10.0.0.2')))
  assert.ok(!meet(mapping('0.0.0.0'), mapping('::')))
  assert.ok(!meet(mapping(), mapping(undefined, { protocol: 'udp' })))
  assert.ok(!meet(mapping(), mapping(undefined, { hostPort: 8081 })))
})
