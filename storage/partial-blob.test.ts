/** Writing what arrives, in order or at several places at once, for somebody who reads it meanwhile; and what a reader finds of it later. */
import assert from 'node:assert/strict'
import { randomBytes, randomInt } from 'node:crypto'
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { isErrno } from '#linux/errno.ts'
import { linux } from '#linux/linux.ts'
import { Extents, parseExtents } from './extents.ts'
import { PartialBlob, readExtents } from './partial-blob.ts'

const directory = mkdtempSync(join(tmpdir(), 'partial-'))
after(() => rmSync(directory, { recursive: true }))

const KIB = 1024
const noLock = { [Symbol.dispose]: () => {} }
const openAt = (path: string, size: number): Promise<PartialBlob> => PartialBlob.open(path, size, noLock)

suite('ranges that are there', () => {
  test('join, and leave the gaps, in whatever order they come', () => {
    for (let trial = 0; trial < 200; trial++) {
      const size = randomInt(1, 60)
      const there = new Set<number>()
      const extents = new Extents()
      for (let count = randomInt(12); count > 0; count--) {
        const start = randomInt(size)
        const end = randomInt(start, size + 1)
        extents.add({ start, end })
        for (let at = start; at < end; at++) there.add(at)
      }
      const inGaps = extents
        .gaps(size)
        .flatMap(({ start, end }) => Array.from({ length: end - start }, (_, at) => start + at))
      assert.deepEqual(
        inGaps,
        Array.from({ length: size }, (_, at) => at).filter((at) => !there.has(at)),
      )
      assert.equal(extents.bytes, there.size)
      assert.equal(extents.prefix, inGaps[0] ?? size)
    }
  })

  test('are read up to the length of the file, and without what was cut or makes no sense', () => {
    assert.deepEqual(parseExtents('0-10\n20-30\n25-1000\n40-4', 500).ranges, [
      { start: 0, end: 10 },
      { start: 20, end: 500 },
    ])
    assert.deepEqual(parseExtents('', 500).ranges, [])
    assert.deepEqual(parseExtents('x\n-5\n7-3\n\0\0\0\n1-2\n', 500).ranges, [{ start: 1, end: 2 }])
  })
})

suite('a blob that is arriving', () => {
  test('tells what is there without a gap, and goes on where it stopped', async () => {
    const bytes = randomBytes(900_000)
    const path = join(directory, 'in-order')
    for (const [from, to] of [
      [0, 300_000],
      [300_000, 900_000],
    ] as const) {
      await using partial = await openAt(path, bytes.length)
      assert.equal(partial.growth.available, from)
      const told: number[] = []
      using _ = partial.growth.onChange(() => told.push(partial.growth.available))
      for (let at = from; at < to; at += 50_000) await partial.write(bytes.subarray(at, at + 50_000), at)
      assert.deepEqual(
        told,
        told.toSorted((a, b) => a - b),
      )
      assert.equal(told.at(-1), to)
    }
    assert.ok(readFileSync(path).equals(bytes))
    assert.ok(!existsSync(`${path}.extents`))
  })

  test('written at several places, is found again by whoever comes after a kill, but for the last few bytes', async () => {
    const bytes = randomBytes(4_000_000)
    const path = join(directory, 'in-parts')
    const starts = [0, 1_000_000, 2_000_000, 3_000_000]
    const killed = await openAt(path, bytes.length)
    const writeSome = async (from: number): Promise<number> => {
      let at = from
      for (let count = randomInt(3, 20); count > 0; count--) {
        const piece = bytes.subarray(at, at + randomInt(1, 40_000))
        await killed.write(piece, at)
        at += piece.length
      }
      return at - from
    }
    const written = (await Promise.all(starts.map(writeSome))).reduce((sum, count) => sum + count, 0)
    // Not disposed of: what a killed process leaves.
    let { extents } = await readExtents(path)
    // The journal's writes are waited for by nobody.
    for (let turns = 0; turns < 2000 && written - extents.bytes > 64 * KIB; turns++) {
      await sleep(5)
      extents = (await readExtents(path)).extents
    }
    assert.ok(written - extents.bytes <= 64 * KIB, `${extents.bytes} of ${written}`)
    const found = readFileSync(path)
    for (const { start, end } of extents.ranges)
      assert.ok(found.subarray(start, end).equals(bytes.subarray(start, end)))

    await using next = await openAt(path, bytes.length)
    for (const { start, end } of next.missing()) await next.write(bytes.subarray(start, end), start)
    assert.ok(next.growth.isWhole)
    assert.ok(readFileSync(path).equals(bytes))
    await killed[Symbol.asyncDispose]()
  })

  test('is begun anew when what is there cannot be of it', async () => {
    const path = join(directory, 'stranger')
    writeFileSync(path, 'longer than the blob')
    await using partial = await openAt(path, 5)
    assert.deepEqual(partial.missing(), [{ start: 0, end: 5 }])
    assert.equal(readFileSync(path).length, 0)
  })

  test('whose file was lost or cut has no more than the file', async () => {
    const path = join(directory, 'cut')
    {
      await using partial = await openAt(path, 1000)
      await partial.write(Buffer.alloc(100), 0)
      await partial.write(Buffer.alloc(300), 500)
    }
    assert.deepEqual((await readExtents(path)).extents.gaps(1000), [
      { start: 100, end: 500 },
      { start: 800, end: 1000 },
    ])
    truncateSync(path, 600)
    appendFileSync(`${path}.extents`, '600-7')
    assert.deepEqual((await readExtents(path)).extents.ranges, [
      { start: 0, end: 100 },
      { start: 500, end: 600 },
    ])
    rmSync(path)
    await using partial = await openAt(path, 1000)
    assert.equal(partial.growth.available, 0)
    assert.ok(!existsSync(`${path}.extents`))
  })

  for (const starts of [[0], [0, 2_000_000]]) {
    test(`gives a full disk its room back, written at ${starts.length} places`, async (t) => {
      const disk = join(directory, `disk-${starts.length}`)
      mkdirSync(disk)
      linux.mount({ source: 'tmpfs', target: disk, type: 'tmpfs', data: 'size=1m' })
      t.after(() => linux.unmount(disk, { detach: true }))
      const path = join(disk, 'blob')
      {
        await using partial = await openAt(path, 4_000_000)
        const fill = async (start: number): Promise<void> => {
          for (let at = start; at < start + 2_000_000; at += 50_000) await partial.write(Buffer.alloc(50_000), at)
        }
        const filled = await Promise.allSettled(starts.map(fill))
        for (const each of filled) assert.ok(each.status === 'rejected' && isErrno(each.reason, 'ENOSPC'))
      }
      assert.equal(readFileSync(path).length, 0)
      assert.ok(!existsSync(`${path}.extents`))
    })
  }
})
