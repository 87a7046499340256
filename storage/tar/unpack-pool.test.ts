/** The processes that unpack: what they may not do to the node, how they follow a blob, and how they end. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { getPriority, tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { gzipSync } from 'node:zlib'
import { linux } from '#linux/linux.ts'
import { childrenOf } from '#linux/proc.ts'
import { isKind } from '#proto/errors.ts'
import { digestOf, parseDiffId } from '../digest.ts'
import { Growth } from '../growth.ts'
import { DEFAULT_LIMITS } from './limits.ts'
import { archive, dir, file } from './testing/tarsmith.ts'
import { UnpackPool, type UnpackPoolOptions, type UnpackTask, WrongBlob } from './unpack-pool.ts'
import { underNode, unpackProgram } from './unpack-process.ts'

interface Bench {
  readonly pool: UnpackPool
  readonly path: (...parts: string[]) => string
  /** An empty directory and what is to be unpacked into it; so much of the blob is there. */
  task(tar: Buffer, blob: Buffer, available?: number): UnpackTask
}

/** @param disk of what options a file system of its own is made for what is unpacked */
const setUp = (t: TestContext, options: Partial<UnpackPoolOptions> = {}, disk?: string): Bench => {
  const directory = mkdtempSync(join(tmpdir(), 'unpack-'))
  const path = (...parts: string[]): string => join(directory, ...parts)
  const places = { temp: path('temp'), whole: path('whole'), partial: path('partial') }
  for (const place of Object.values(places)) mkdirSync(place)
  if (disk !== undefined) linux.mount({ source: 'tmpfs', target: places.temp, type: 'tmpfs', data: disk })
  const pool = new UnpackPool(places, { size: 2, idleMs: 60_000, ...options })
  t.after(async () => {
    await pool.close()
    linux.unmount(places.temp, { detach: true })
    rmSync(directory, { recursive: true })
  })
  let count = 0
  const task = (tar: Buffer, blob: Buffer, available = blob.length): UnpackTask => {
    const name = `blob-${count++}`
    writeFileSync(path('partial', name), blob.subarray(0, available))
    mkdirSync(path('temp', name))
    return {
      place: 'partial',
      name,
      digest: digestOf(blob),
      size: blob.length,
      growth: new Growth(blob.length, available),
      diffId: parseDiffId(digestOf(tar)),
      directory: name,
      limits: DEFAULT_LIMITS,
    }
  }
  return { pool, path, task }
}

const small = archive(dir('d'), file('d/f', 'content'))

const until = async (isSo: () => boolean): Promise<void> => {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 10))
}

const statusOf = (pid: number): string => readFileSync(`/proc/${pid}/status`, 'utf8')

for (const [name, program] of Object.entries({ 'as built': unpackProgram(), 'under Node': underNode() })) {
  describe(`an unpacking process ${name}`, () => {
    it('follows a blob that grows, and verifies it as it goes', async (t) => {
      const { pool, path, task } = setUp(t, { program })
      const tar = archive(file('noise', randomBytes(1_500_000).toString('latin1')), file('last', 'x'))
      const blob = gzipSync(tar)
      const work = task(tar, blob, 100_000)
      const unpacked = pool.run(work)
      await until(() => existsSync(path('temp', work.directory, 'noise')))
      assert.equal(existsSync(path('temp', work.directory, 'last')), false)
      for (let at = 100_000; at < blob.length; at += 300_000) {
        appendFileSync(path('partial', work.name), blob.subarray(at, at + 300_000))
        work.growth.reached(Math.min(blob.length, at + 300_000))
      }
      assert.equal((await unpacked).inodes, 3)
      assert.equal(readFileSync(path('temp', work.directory, 'last'), 'utf8'), 'x')
    })

    it('tells bytes that are not the blob from an archive that is none', async (t) => {
      const { pool, task } = setUp(t, { program })
      const blob = gzipSync(small)
      const wrong = { ...task(small, blob), digest: digestOf('something else') }
      await assert.rejects(pool.run(wrong), (error) => error instanceof WrongBlob)
      const spoiled = Buffer.from(blob)
      spoiled.fill(0xff, 20, 30)
      await assert.rejects(pool.run({ ...task(small, spoiled), digest: digestOf(blob) }), (e) => e instanceof WrongBlob)
      await assert.rejects(
        pool.run(task(small, spoiled)),
        (error) => !(error instanceof WrongBlob) && isKind(error, 'failed-precondition'),
      )
    })

    it('goes behind us where there are not enough processors', async (t) => {
      const before = new Set(childrenOf(process.pid))
      const { pool, task } = setUp(t, { program })
      await pool.run(task(small, gzipSync(small)))
      const [pid = 0] = childrenOf(process.pid).filter((child) => !before.has(child))
      assert.equal(getPriority(pid), Math.min(getPriority() + 5, 19))
    })

    it('has no network, no other process, few capabilities, and calls that fail', async (t) => {
      const before = new Set(childrenOf(process.pid))
      const { pool, task } = setUp(t, { program })
      await pool.run(task(small, small))
      const pid = childrenOf(process.pid).find((child) => !before.has(child)) ?? assert.fail('no process')
      const status = statusOf(pid)
      for (const set of ['CapPrm', 'CapEff', 'CapBnd'])
        assert.match(status, new RegExp(`${set}:\\s+000000008804001b\\n`))
      assert.match(status, /NoNewPrivs:\s+1\n/)
      assert.match(status, /Seccomp:\s+2\n/)
      assert.match(status, /NSpid:\s+\d+\s+1\n/)
      const namespaceOf = (which: string, of: string): string =>
        execFileSync('readlink', [`/proc/${of}/ns/${which}`]).toString()
      for (const which of ['net', 'ipc']) assert.notEqual(namespaceOf(which, String(pid)), namespaceOf(which, 'self'))
      // All threads: what inflates is one of them.
      for (const thread of readdirSync(`/proc/${pid}/task`))
        assert.match(readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8'), /CapEff:\s+000000008804001b\n/)
      assert.deepEqual(readdirSync(`/proc/${pid}/root/`).sort(), readdirSync(join(pool.places.temp)).sort())
    })
  })
}

describe('a pool of unpacking processes', () => {
  it('uses a process again, and ends it when idle', async (t) => {
    const { pool, task } = setUp(t, { size: 2, idleMs: 100 })
    for (let i = 0; i < 3; i++) await pool.run(task(small, small))
    assert.equal(pool.processes, 1)
    await until(() => pool.processes === 0)
    assert.equal((await pool.run(task(small, small))).inodes, 3)
  })

  it('stops for whoever leaves, and goes on with the next', async (t) => {
    const { pool, task } = setUp(t, { size: 1 })
    const leaver = new AbortController()
    const left = pool.run(task(small, small, 10), leaver.signal)
    await until(() => pool.processes === 1)
    leaver.abort(new Error('gone'))
    await assert.rejects(left, /gone/)
    const broken = task(small, small, 10)
    const failed = pool.run(broken)
    broken.growth.fail(new Error('cut'))
    await assert.rejects(failed, /cut/)
    assert.equal((await pool.run(task(small, small))).inodes, 3)
    assert.equal(pool.processes, 1)
  })

  it('fails the layer of a process that dies, and only that', async (t) => {
    const before = new Set(childrenOf(process.pid))
    const { pool, task } = setUp(t, { size: 1 })
    const doomed = pool.run(task(small, small, 10))
    await until(() => childrenOf(process.pid).some((pid) => !before.has(pid)))
    for (const pid of childrenOf(process.pid)) if (!before.has(pid)) process.kill(pid, 'SIGKILL')
    await assert.rejects(doomed, (error) => isKind(error, 'internal'))
    assert.equal((await pool.run(task(small, small))).inodes, 3)
  })

  it('does not let a blob that trickles in keep others waiting', async (t) => {
    const { pool, task } = setUp(t, { size: 1 })
    const slow = pool.run(task(small, small, 10))
    const quick = pool.run(task(small, small))
    await assert.rejects(slow, (error) => error instanceof Error && error.constructor.name === 'TrickledIn')
    assert.equal((await quick).inodes, 3)
  })
})

describe('a layer on a disk', () => {
  const isFull = (error: unknown): boolean => isKind(error, 'resource-exhausted')

  it('that has only what the daemon needs for itself is not begun', async (t) => {
    const bench = setUp(t, {}, 'size=8m')
    const temp = bench.path('temp')
    writeFileSync(join(temp, 'filling'), Buffer.alloc(7.8 * 2 ** 20))
    await assert.rejects(bench.pool.run(bench.task(small, small)), isFull)
    rmSync(join(temp, 'filling'))
    assert.equal((await bench.pool.run(bench.task(small, small))).inodes, 3)
  })

  for (const [what, data, tar] of [
    [
      'room',
      'size=8m',
      archive(
        file(
          'big',
          '\0'
            .repeat(2 ** 20)
            .replaceAll('\0', 'x')
            .repeat(20),
        ),
      ),
    ],
    ['inodes', 'nr_inodes=50', archive(...Array.from({ length: 100 }, (_, i) => file(`f${i}`)))],
  ] as const)
    it(`that has no ${what} for it fails alone (R1, R5)`, async (t) => {
      const bench = setUp(t, {}, data)
      const temp = bench.path('temp')
      await assert.rejects(bench.pool.run(bench.task(tar, tar)), isFull)
      for (const name of readdirSync(temp)) rmSync(join(temp, name), { recursive: true })
      assert.equal((await bench.pool.run(bench.task(small, small))).inodes, 3)
    })
})
