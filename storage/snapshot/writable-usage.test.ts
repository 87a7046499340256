import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { silentLog } from '#proto/log.ts'
import type { Usage } from '../tree/measure-tree.ts'
import { WritableUsage } from './writable-usage.ts'

/** Measurements that the test answers itself, in the order in which they were asked for. */
const byHand = (t: TestContext, staleMs: number) => {
  const asked: { id: string; answer: (usage: Usage | Error) => void }[] = []
  const waiting: (() => void)[] = []
  const usage = new WritableUsage({
    log: silentLog,
    staleMs,
    measure: (id, signal) =>
      new Promise((resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason))
        asked.push({ id, answer: (answer) => (answer instanceof Error ? reject(answer) : resolve(answer)) })
        for (const wake of waiting.splice(0)) wake()
      }),
  })
  t.after(() => usage.close())
  const next = async () => {
    for (;;) {
      const first = asked.shift()
      if (first !== undefined) return first
      await new Promise<void>((resolve) => waiting.push(resolve))
    }
  }
  const known = async (id: string, bytes: number): Promise<void> => {
    while (usage.of(id)?.bytes !== bytes) await new Promise((resolve) => setImmediate(resolve))
  }
  return { usage, next, known, asked }
}

const of = (bytes: number): Usage => ({ bytes, inodes: 1 })

describe('usage of a writable layer', () => {
  it('is known from the first moment when it was given', (t) => {
    const { usage, asked } = byHand(t, 1e9)
    usage.add('c', of(4096))
    assert.deepEqual({ ...usage.of('c'), atMs: 0 }, { bytes: 4096, inodes: 1, atMs: 0 })
    assert.deepEqual(usage.total(), of(4096))
    assert.deepEqual(asked, [])
  })

  it('is measured without being asked when it is not known, one at a time', async (t) => {
    const { usage, next, known, asked } = byHand(t, 1e9)
    usage.add('a')
    usage.add('b')
    const first = await next()
    assert.equal(first.id, 'a')
    assert.deepEqual([asked, usage.of('a'), usage.total().bytes], [[], undefined, 0])
    first.answer(of(1))
    const second = await next()
    assert.equal(second.id, 'b')
    second.answer(of(2))
    await known('b', 2)
    assert.deepEqual(usage.total(), { bytes: 3, inodes: 2 })
  })

  it('is answered at once although it is old, and measured again', async (t) => {
    const { usage, next, known } = byHand(t, -1)
    usage.add('c', of(1))
    assert.equal(usage.of('c')?.bytes, 1)
    const measurement = await next()
    assert.equal(usage.of('c')?.bytes, 1)
    measurement.answer(of(2))
    await known('c', 2)
  })

  it('is measured a last time when nobody writes any more', async (t) => {
    const { usage, next, known, asked } = byHand(t, -1)
    usage.add('c', of(1))
    usage.setWritten('c', false)
    ;(await next()).answer(of(5))
    await known('c', 5)
    await new Promise((resolve) => setTimeout(resolve, 100))
    assert.deepEqual([usage.of('c')?.bytes, asked], [5, []])
    usage.setWritten('c', true)
    ;(await next()).answer(of(6))
    await known('c', 6)
  })

  it('of one that cannot be measured does not keep the others from it', async (t) => {
    const { usage, next, known } = byHand(t, 1e9)
    usage.add('bad')
    usage.add('good')
    ;(await next()).answer(new Error('EIO'))
    ;(await next()).answer(of(7))
    await known('good', 7)
    assert.equal(usage.of('bad'), undefined)
  })

  it('ends with the store, and with its layer', async (t) => {
    const { usage, next } = byHand(t, 1e9)
    usage.add('c')
    await next()
    await usage.close()
    usage.remove('c')
    assert.deepEqual([usage.of('c'), usage.total().bytes], [undefined, 0])
  })
})
