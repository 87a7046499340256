import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { EventLog, type EventSink } from './event-log.ts'
import { OrderedClock } from './ordered-clock.ts'

/** Takes so many events before it wants to be asked again. */
const reader = (room = Number.POSITIVE_INFINITY) => {
  const got: number[] = []
  const failures: unknown[] = []
  const reading = { room }
  const sink: EventSink = {
    write: (event) => {
      got.push(event[0] ?? -1)
      return got.length < reading.room
    },
    fail: (error) => void failures.push(error),
  }
  return { sink, got, failures, reading }
}

const event = (n: number, size = 1) => Buffer.alloc(size, n)

test('each subscriber gets what happens after it came, in order', () => {
  const log = new EventLog()
  log.append(event(1))
  const [early, late] = [reader(), reader()]
  const subscriber = log.subscribe(early.sink)
  log.append(event(2))
  log.subscribe(late.sink)
  log.append(event(3))
  log.unsubscribe(subscriber)
  log.append(event(4))
  assert.deepEqual(
    [early.got, late.got],
    [
      [2, 3],
      [3, 4],
    ],
  )
  assert.ok(log.isHeard)
})

test('a subscriber that was slow gets all that it has not had', () => {
  const log = new EventLog()
  const slow = reader(1)
  const subscriber = log.subscribe(slow.sink)
  for (const n of [1, 2, 3]) log.append(event(n))
  assert.deepEqual(slow.got, [1])
  slow.reading.room = 100
  log.resume(subscriber)
  assert.deepEqual([slow.got, slow.failures], [[1, 2, 3], []])
})

test('one that never reads ends with an error, and keeps nobody else from theirs', () => {
  const log = new EventLog({ events: 3 })
  const [stuck, quick] = [reader(1), reader()]
  const subscriber = log.subscribe(stuck.sink)
  log.subscribe(quick.sink)
  for (const n of [1, 2, 3, 4]) log.append(event(n))
  assert.deepEqual(stuck.failures, [])
  log.append(event(5))
  assert.equal(stuck.failures.length, 1)
  assert.ok(isKind(stuck.failures[0], 'resource-exhausted'))
  stuck.reading.room = 100
  log.resume(subscriber)
  log.append(event(6))
  assert.deepEqual([stuck.got, stuck.failures.length], [[1], 1])
  assert.deepEqual([quick.got, quick.failures], [[1, 2, 3, 4, 5, 6], []])
})

test('large events fill the log sooner, but one of any size is told', () => {
  const log = new EventLog({ bytes: 100 })
  const [stuck, quick] = [reader(1), reader()]
  log.subscribe(stuck.sink)
  log.subscribe(quick.sink)
  log.append(event(1, 1000))
  log.append(event(2, 60))
  log.append(event(3, 40))
  assert.deepEqual(stuck.failures, [])
  log.append(event(4, 1))
  assert.equal(stuck.failures.length, 1)
  assert.deepEqual(quick.got, [1, 2, 3, 4])
})

test('there are no more subscribers than may be, and none after the end', () => {
  const log = new EventLog({ subscribers: 2 })
  const [one, two] = [reader(), reader()]
  const first = log.subscribe(one.sink)
  log.subscribe(two.sink)
  assert.throws(
    () => log.subscribe(reader().sink),
    (error) => isKind(error, 'resource-exhausted'),
  )
  log.unsubscribe(first)
  log.subscribe(one.sink)
  log.close()
  assert.deepEqual([one.failures.length, two.failures.length, log.isHeard], [1, 1, false])
  assert.throws(
    () => log.subscribe(one.sink),
    (error) => isKind(error, 'unavailable'),
  )
})

test('the clock of events never stands still and never goes back', () => {
  const times = [10n, 10n, 5n, 11n, 20n]
  const clock = new OrderedClock(() => times.shift() ?? 0n)
  assert.deepEqual(
    [1, 2, 3, 4, 5, 6].map(() => clock.now()),
    [10n, 11n, 12n, 13n, 20n, 21n],
  )
})
