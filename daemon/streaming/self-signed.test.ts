import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import { makeSelfSigned } from './self-signed.ts'

const DAY_MS = 86_400_000

test('a self-signed certificate verifies under its own key, for its names and for a year', () => {
  const now = Date.parse('2049-12-31T23:00:00Z')
  const { cert, key, expiresAt } = makeSelfSigned(['node-1.example', '127.0.0.1', 'fd00::1:2'], now)
  const parsed = new X509Certificate(cert)
  assert.ok(parsed.verify(parsed.publicKey))
  assert.equal(parsed.subject, 'CN=cricket streaming')
  assert.equal(parsed.checkHost('node-1.example'), 'node-1.example')
  assert.equal(parsed.checkIP('127.0.0.1'), '127.0.0.1')
  assert.equal(parsed.checkIP('fd00::1:2'), 'fd00::1:2')
  assert.equal(parsed.checkIP('fd00::1:3'), undefined)
  assert.equal(parsed.ca, false)
  assert.equal(parsed.validFromDate.getTime(), now - DAY_MS)
  assert.equal(parsed.validToDate.getTime(), expiresAt)
  assert.match(key, /BEGIN PRIVATE KEY/)
})

test('each self-signed certificate has a number of its own', () => {
  const numbers = [1, 2, 3].map(() => new X509Certificate(makeSelfSigned(['::1']).cert).serialNumber)
  assert.equal(new Set(numbers).size, 3)
})
