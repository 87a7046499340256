/** The three primitives that many steps stand on: undo list, lock by key, single flight. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { KeyedLock } from './keyed-lock.ts'
import { Rollback } from './rollback.ts'
import { SingleFlight } from './single-flight.ts'

const never = (): never => assert.fail('nothing is left behind')

describe('Rollback', () => {
  it('undoes last first when left early, keeps the error', async () => {
    const undone: string[] = []
    const run = async (): Promise<void> => {
      await using rollback = new Rollback(never)
      rollback.defer('one', () => undone.push('one'))
      rollback.defer('two', async () => undone.push('two'))
      throw new Error('the real one')
    }
    await assert.rejects(run, /the real one/)
    assert.deepEqual(undone, ['two', 'one'])
  })

  it('undoes nothing once kept', async () => {
    await using rollback = new Rollback(never)
    rollback.defer('one', never)
    rollback.keep()
  })

  it('goes on after a step that cannot be undone, and never throws', async () => {
    const left: string[] = []
    const undone: string[] = []
    const run = async (): Promise<void> => {
      await using rollback = new Rollback((what) => void left.push(what))
      rollback.defer('one', () => undone.push('one'))
      rollback.defer('two', () => Promise.reject(new Error('stuck')))
      throw new Error('the real one')
    }
    await assert.rejects(run, { message: 'the real one' })
    assert.deepEqual([left, undone], [['two'], ['one']])
  })
})

describe('KeyedLock', () => {
  it('lets one in at a time, in order, and other keys at once', async () => {
    const locks = new KeyedLock()
    const order: string[] = []
    const hold = async (key: string, name: string): Promise<void> => {
      using _ = await locks.take(key)
      order.push(`${name} in`)
      await new Promise(setImmediate)
      order.push(`${name} out`)
    }
    await Promise.all([hold('k', 'a'), hold('k', 'b'), hold('other', 'c'), hold('k', 'd')])
    assert.deepEqual(
      order.filter((event) => !event.startsWith('c')),
      ['a in', 'a out', 'b in', 'b out', 'd in', 'd out'],
    )
    assert.ok(order.indexOf('c in') < order.indexOf('a out'))
    assert.equal(locks.isHeld('k'), false)
  })

  it('can be given up while waiting, without holding up others', async () => {
    const locks = new KeyedLock()
    const first = await locks.take('k')
    const abort = new AbortController()
    const second = locks.take('k', abort.signal)
    const third = locks.take('k')
    abort.abort(new Error('enough'))
    await assert.rejects(second, /enough/)
    first[Symbol.dispose]()
    const held = await third
    first[Symbol.dispose]()
    assert.equal(locks.isHeld('k'), true, 'releasing twice releases nobody else')
    held[Symbol.dispose]()
    assert.equal(locks.isHeld('k'), false)
    await assert.rejects(locks.take('k', abort.signal), /enough/)
  })
})

describe('SingleFlight', () => {
  it('runs once for all who come meanwhile, again for who comes later', async () => {
    const flights = new SingleFlight<number>()
    let runs = 0
    const operation = async (): Promise<number> => {
      await new Promise(setImmediate)
      return ++runs
    }
    assert.deepEqual(await Promise.all([1, 2, 3].map(() => flights.run('k', operation))), [1, 1, 1])
    assert.equal(await flights.run('k', operation), 2)
    assert.equal(flights.has('k'), false)
  })

  it('goes on when the caller leaves, for the next one to join', async () => {
    const flights = new SingleFlight<string>()
    const { promise, resolve } = Promise.withResolvers<string>()
    const abort = new AbortController()
    const first = flights.run('k', () => promise, abort.signal)
    abort.abort(new Error('deadline'))
    await assert.rejects(first, /deadline/)
    const second = flights.run('k', () => assert.fail('must join'))
    resolve('done')
    assert.equal(await second, 'done')
  })

  it('fails for all, and aborts all when told to', async () => {
    const flights = new SingleFlight<void>()
    const operation = (signal: AbortSignal): Promise<void> =>
      new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    const results = [flights.run('k', operation), flights.run('k', operation)].map((run) =>
      assert.rejects(run, /closing/),
    )
    await flights.abortAll(new Error('closing'))
    await Promise.all(results)
    await assert.rejects(
      flights.run('k', () => {
        throw new Error('at once')
      }),
      /at once/,
    )
  })
})
