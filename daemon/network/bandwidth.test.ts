import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseQuantity, podBandwidth } from './bandwidth.ts'

test('parseQuantity() reads Kubernetes quantities, rounding up', () => {
  const cases: [string, number | undefined][] = [
    ['10M', 10_000_000],
    ['1k', 1000],
    ['1.1M', 1_100_000],
    ['1Mi', 1_048_576],
    ['1.5Gi', 1_610_612_736],
    ['1e6', 1_000_000],
    ['2E', 2e18],
    ['1500m', 2],
    ['.5k', 500],
    ['5.', 5],
    ['+3', 3],
    ['', undefined],
    ['M', undefined],
    ['10 M', undefined],
    ['10MB', undefined],
    ['0x10', undefined],
    ['1e', undefined],
    ['NaN', undefined],
  ]
  for (const [text, value] of cases) assert.equal(parseQuantity(text), value, text)
})

test('podBandwidth() asks for what the annotations ask for', () => {
  assert.equal(podBandwidth({ other: 'x' }), undefined)
  assert.deepEqual(podBandwidth({ 'kubernetes.io/ingress-bandwidth': '10M' }), {
    ingressRate: 10_000_000,
    ingressBurst: 4_294_967_295,
  })
  assert.deepEqual(podBandwidth({ 'kubernetes.io/egress-bandwidth': '1k' }), {
    egressRate: 1000,
    egressBurst: 4_294_967_295,
  })
})

test('podBandwidth() refuses what is no quantity or out of range', () => {
  for (const text of ['fast', '999', '-10M', '2P', '1e999']) {
    assert.throws(() => podBandwidth({ 'kubernetes.io/egress-bandwidth': text }), {
      kind: 'invalid-argument',
      message: /kubernetes\.io\/egress-bandwidth/,
    })
  }
})
