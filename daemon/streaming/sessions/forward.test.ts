import assert from 'node:assert/strict'
import { PassThrough, Readable, Writable } from 'node:stream'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { drainOutputs, forwardInput, Output } from './forward.ts'

const never = new AbortController().signal

/** Takes nothing until it is told to. */
class StalledSink extends Writable {
  readonly taken: Buffer[] = []
  #go: () => void = () => {}

  constructor() {
    super({ highWaterMark: 10 })
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#go = () => {
      // What was taken is given back.
      this.taken.push(Buffer.from(chunk))
      done()
    }
  }

  go(): void {
    this.#go()
  }
}

test('a source that ended before anybody looked is at its end', async () => {
  const source = new Readable({ read() {} })
  source.push(null)
  source.resume()
  await sleep(10)
  assert.ok(source.destroyed)
  await drainOutputs([new Output(source, undefined)], never)
})

test('what a client does not take stops the source, and draining waits for the client', async () => {
  const source = new PassThrough()
  const sink = new StalledSink()
  const output = new Output(source, sink)
  source.write(Buffer.alloc(100, 'a'))
  await sleep(20)
  assert.ok(output.isStalled)
  source.write(Buffer.alloc(100, 'b'))
  const drained = drainOutputs([output], never)
  // Longer than an output may be quiet.
  await sleep(500)
  assert.equal(output.seen, 100)
  sink.go()
  await sleep(150)
  sink.go()
  await drained
  assert.equal(Buffer.concat(sink.taken).toString(), 'a'.repeat(100) + 'b'.repeat(100))
})

test('draining ends though somebody keeps the source open, and at once when it is aborted', async () => {
  const quiet = new Output(new PassThrough(), new PassThrough())
  await drainOutputs([quiet], never)
  const controller = new AbortController()
  const sink = new StalledSink()
  const source = new PassThrough()
  const stalled = new Output(source, sink)
  source.write(Buffer.alloc(100))
  await sleep(20)
  const drained = drainOutputs([stalled], controller.signal)
  controller.abort()
  await drained
  assert.ok(source.destroyed)
})

test('a client that has gone stops nothing: what comes is thrown away', async () => {
  const source = new PassThrough()
  const sink = new StalledSink()
  const output = new Output(source, sink)
  source.write(Buffer.alloc(100))
  await sleep(20)
  sink.destroy(new Error('gone'))
  for (let chunk = 0; chunk < 100; chunk++) source.write(Buffer.alloc(10_000))
  source.end()
  await output.ended
  assert.equal(output.seen, 1_000_100)
})

test('input that nobody reads any more is thrown away, so that its client goes on', async () => {
  const from = new PassThrough()
  const to = new StalledSink()
  forwardInput(from, to, { isTerminal: false })
  for (let chunk = 0; chunk < 10; chunk++) from.write(Buffer.alloc(10_000))
  await sleep(20)
  assert.ok(from.readableLength > 0)
  to.destroy()
  await sleep(50)
  assert.equal(from.readableLength, 0)
})
