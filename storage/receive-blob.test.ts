/** Writing what arrives for somebody who reads it meanwhile. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { linux } from '#linux/linux.ts'
import { Growth } from './growth.ts'
import { receiveInto } from './receive-blob.ts'

const directory = mkdtempSync(join(tmpdir(), 'receive-'))
after(() => rmSync(directory, { recursive: true }))

async function* pieces(bytes: Buffer, length: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length)
}

test('everything arrives in order, in pieces small and large, and what is told to be there is there', async () => {
  const bytes = randomBytes(9_000_000)
  for (const length of [4_000, 64 * 1024, 700_000, 3_000_000]) {
    const path = join(directory, String(length))
    const growth = new Growth(bytes.length)
    const told: number[] = []
    using _ = growth.onChange(() => {
      told.push(growth.available)
      assert.ok(readFileSync(path).length >= growth.available)
    })
    await receiveInto(path, pieces(bytes, length), growth, { from: 0 })
    assert.ok(readFileSync(path).equals(bytes))
    assert.equal(told.at(-1), bytes.length)
    assert.deepEqual(
      told,
      told.toSorted((a, b) => a - b),
    )
  }
})

test('goes on in the middle, and a source that begins anew takes nothing away that is being read', async () => {
  const bytes = randomBytes(300_000)
  const path = join(directory, 'resumed')
  writeFileSync(path, bytes.subarray(0, 100_000))
  const growth = new Growth(bytes.length, 100_000)
  await receiveInto(path, pieces(bytes.subarray(0, 50_000), 10_000), growth, { from: 0 })
  assert.deepEqual([readFileSync(path).length, growth.available], [100_000, 100_000])
  await receiveInto(path, pieces(bytes.subarray(100_000), 10_000), growth, { from: 100_000 })
  assert.ok(readFileSync(path).equals(bytes) && growth.isWhole)
})

test('keeps what came before the source broke', async () => {
  const bytes = randomBytes(500_000)
  const path = join(directory, 'broken')
  const growth = new Growth(1_000_000)
  const source = async function* (): AsyncGenerator<Buffer> {
    yield* pieces(bytes, 64 * 1024)
    throw new Error('cut')
  }
  await assert.rejects(receiveInto(path, source(), growth, { from: 0 }), /cut/)
  assert.equal(growth.available, bytes.length)
  assert.ok(readFileSync(path).equals(bytes))
})

test('gives a full disk its room back', async (t) => {
  const disk = join(directory, 'disk')
  mkdirSync(disk)
  linux.mount({ source: 'tmpfs', target: disk, type: 'tmpfs', data: 'size=1m' })
  t.after(() => linux.unmount(disk, { detach: true }))
  const path = join(disk, 'blob')
  const growth = new Growth(3_000_000)
  const received = receiveInto(path, pieces(randomBytes(3_000_000), 64 * 1024), growth, { from: 0 })
  await assert.rejects(received, { code: 'ENOSPC' })
  assert.equal(readFileSync(path).length, 0)
})
