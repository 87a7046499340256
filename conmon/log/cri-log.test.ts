import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { CriLog, maxContentBytes, prefixBytes, type StreamName, tagOffset, wholeRecords } from './cri-log.ts'

interface Written {
  readonly stream: StreamName
  readonly bytes: Buffer
}

/** Feeds pieces, each as one read, and returns the batches as they would reach the file. */
function batchesOf(pieces: readonly Written[], cutAtEnd = true): { batch: Buffer; content: number }[] {
  const batches: { batch: Buffer; content: number }[] = []
  const log = new CriLog((batch, content) => batches.push({ batch: Buffer.from(batch), content }) === 0)
  for (const [round, { stream, bytes }] of pieces.entries()) {
    log.setTime(1_475_712_009, 669_794_202 + round)
    log.add(stream, bytes)
    log.flush()
  }
  if (cutAtEnd) log.cutUnfinished()
  log.flush()
  return batches
}

const stdout = (...texts: (string | Buffer)[]): Written[] =>
  texts.map((text) => ({ stream: 'stdout', bytes: Buffer.from(text as string) }))

const textOf = (pieces: readonly Written[]): string =>
  Buffer.concat(batchesOf(pieces).map(({ batch }) => batch)).toString('latin1')

/** "F content" of each record. */
const records = (pieces: readonly Written[]): string[] =>
  textOf(pieces)
    .split('\n')
    .slice(0, -1)
    .map((line) => line.slice(tagOffset))

test('a record is time, stream, tag and content', () => {
  assert.equal(textOf(stdout('log content 1\n')), '2016-10-06T00:00:09.669794202Z stdout F log content 1\n')
  assert.equal(textOf([{ stream: 'stderr', bytes: Buffer.from('x') }]), '2016-10-06T00:00:09.669794202Z stderr P x\n')
})

test('pieces of a line become one record, with the time of its end', () => {
  assert.equal(textOf(stdout('one ', 'line\n')), '2016-10-06T00:00:09.669794203Z stdout F one line\n')
})

test('streams do not mix', () => {
  const pieces: Written[] = [...stdout('a'), { stream: 'stderr', bytes: Buffer.from('b\n') }, ...stdout('c\n')]
  assert.deepEqual(
    textOf(pieces)
      .split('\n')
      .slice(0, -1)
      .map((line) => line.slice(31)),
    ['stderr F b', 'stdout F ac'],
  )
})

test('empty lines keep the space before their content', () => {
  assert.deepEqual(records(stdout('\n\n')), ['F ', 'F '])
})

test('carriage returns, NUL and broken UTF-8 stay', () => {
  assert.deepEqual(records(stdout(Buffer.from('a\r\nb\0\xff\u2028\n', 'latin1'))), ['F a\r', 'F b\0\xff('])
})

for (const size of [maxContentBytes - 1, maxContentBytes]) {
  test(`a line of ${size} bytes is whole, however it comes`, () => {
    const line = 'x'.repeat(size)
    assert.deepEqual(records(stdout(`${line}\n`)), [`F ${line}`])
    assert.deepEqual(records(stdout(line, '\n')), [`F ${line}`])
    assert.deepEqual(records(stdout(line.slice(0, 7), line.slice(7), '\n')), [`F ${line}`])
  })
}

for (const size of [maxContentBytes + 1, maxContentBytes + 2, 3 * maxContentBytes]) {
  test(`a line of ${size} bytes is cut at ${maxContentBytes}, however it comes`, () => {
    const line = Array.from({ length: size }, (_, i) => String.fromCharCode(97 + (i % 26))).join('')
    const whole = records(stdout(`${line}\n`))
    assert.equal(whole.map((record) => record.slice(2)).join(''), line)
    assert.deepEqual(
      whole.slice(0, -1).map(({ length }) => length),
      Array(whole.length - 1).fill(maxContentBytes + 2),
    )
    assert.ok(whole.slice(0, -1).every((record) => record.startsWith('P ')) && whole.at(-1)?.startsWith('F '))
    assert.deepEqual(records(stdout(line, '\n')), whole)
    assert.deepEqual(records(stdout(line.slice(0, 5000), `${line.slice(5000)}\n`)), whole)
  })
}

test('an unfinished last line is partial, with no full record after it', () => {
  assert.deepEqual(records(stdout('tail')), ['P tail'])
  assert.deepEqual(records(stdout('x'.repeat(maxContentBytes))), [`P ${'x'.repeat(maxContentBytes)}`])
})

test('a line cut while it was waiting goes on as a record of its own', () => {
  const batches: string[] = []
  const log = new CriLog((batch) => batches.push(batch.toString('latin1').slice(tagOffset)) === 0)
  log.setTime(0, 0)
  log.add('stdout', Buffer.from('password: '))
  assert.equal(log.hasUnfinished, true)
  log.cutUnfinished()
  log.flush()
  assert.equal(log.hasUnfinished, false)
  log.add('stdout', Buffer.from('\n'))
  log.flush()
  assert.deepEqual(batches, ['P password: \n', 'F \n'])
})

test('only a line that has stopped growing, or is very old, is cut; not one that has just begun', () => {
  const batches: string[] = []
  const log = new CriLog((batch) => batches.push(batch.toString('latin1').slice(tagOffset)) === 0)
  const at = (text: string, stream: StreamName = 'stdout') => log.add(stream, Buffer.from(text))
  log.setTime(0, 0)
  // A busy container: there is an unfinished line at every look, but never the same one.
  for (let round = 0; round < 20; round++) {
    at(`begin`)
    assert.equal(log.cutStale(4), true)
    at(` end\n`)
  }
  log.flush()
  assert.equal(batches.join('').match(/P /g), null)
  batches.length = 0
  at('prompt', 'stderr')
  log.cutStale(4)
  at('busy')
  assert.equal(log.cutStale(4), true)
  log.flush()
  assert.deepEqual(batches, ['P prompt\n'])
  batches.length = 0
  for (let round = 0; round < 4; round++) {
    at('.')
    log.cutStale(4)
  }
  log.flush()
  assert.deepEqual(batches, ['P busy....\n'])
})

test('batches are whole records, bounded, and know how many bytes of the container they hold', () => {
  const bytes = Buffer.alloc(64 * 1024, '\n')
  const batches = batchesOf([{ stream: 'stdout', bytes }])
  assert.ok(batches.length > 10)
  assert.equal(
    batches.reduce((sum, { content }) => sum + content, 0),
    bytes.length,
  )
  for (const { batch, content } of batches) {
    assert.ok(batch.length <= 128 * 1024)
    assert.deepEqual(wholeRecords(batch), { end: batch.length, content })
    const torn = batch.subarray(0, batch.length - 1)
    assert.deepEqual(wholeRecords(torn), { end: batch.length - prefixBytes - 1, content: content - 1 })
  }
})

const piece = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc.array(fc.constantFrom(10, 10, 65, 13), { maxLength: 60 }).map((bytes) => Uint8Array.from(bytes)),
  fc.integer({ min: maxContentBytes - 3, max: 4 * maxContentBytes }).map((length) => new Uint8Array(length).fill(66)),
)
const written = fc.record({
  stream: fc.constantFrom<StreamName>('stdout', 'stderr'),
  bytes: piece.map((bytes) => Buffer.from(bytes)),
})

test('whatever comes in comes out, byte for byte, per stream', () => {
  void fc.assert(
    fc.property(fc.array(written, { maxLength: 12 }), (pieces) => {
      const batches = batchesOf(pieces)
      const lines = Buffer.concat(batches.map(({ batch }) => batch))
        .toString('latin1')
        .split('\n')
        .slice(0, -1)
      for (const stream of ['stdout', 'stderr']) {
        const mine = lines.filter((line) => line.slice(31, 37) === stream).map((line) => line.slice(tagOffset))
        const text = mine.map((record) => (record.startsWith('F') ? `${record.slice(2)}\n` : record.slice(2))).join('')
        const sent = Buffer.concat(pieces.filter((p) => p.stream === stream).map((p) => p.bytes)).toString('latin1')
        assert.equal(text, sent)
        assert.ok(mine.every((record) => record.length <= maxContentBytes + 2))
      }
      const content = batches.reduce((sum, batch) => sum + batch.content, 0)
      assert.equal(
        content,
        pieces.reduce((sum, { bytes }) => sum + bytes.length, 0),
      )
    }),
    { numRuns: 200 },
  )
})
