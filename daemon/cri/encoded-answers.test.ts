import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { answerInChunks, maxMessageBytes, wholeAnswer } from './encoded-answers.ts'

/** As many exited containers as a node may have, with annotations as large as these. */
function* items(count: number, bytes: number): Generator<Uint8Array> {
  for (let n = 0; n < count; n++) yield Buffer.alloc(bytes, n)
}

const collect = async <T>(chunks: AsyncIterable<T>): Promise<T[]> => {
  const all: T[] = []
  for await (const chunk of chunks) all.push(chunk)
  return all
}

test('ten thousand containers are one message as long as that is one, and then an error that says what to do', async () => {
  const fits = await wholeAnswer(items(10_000, 1_600), 'StreamContainers')
  assert.equal(fits.length, 16_000_000)
  await assert.rejects(
    wholeAnswer(items(10_000, 2_000), 'StreamContainers'),
    (error) => isKind(error, 'resource-exhausted') && /StreamContainers/.test(String(error)),
  )
})

test('streamed, they are messages far below the limit, whatever the size of an item, and nothing is missing', async () => {
  for (const [count, bytes] of [
    [10_000, 2_000],
    [50, 256 * 1024],
    [3, 10],
    [0, 1],
  ] as const) {
    const chunks = await collect(answerInChunks(items(count, bytes)))
    assert.deepEqual(Buffer.concat(chunks), Buffer.concat([...items(count, bytes)]))
    assert.ok(chunks.every(({ length }) => length > 0 && length < maxMessageBytes / 8))
  }
})

test('others have their turn while a long answer is made', async () => {
  function* slowItems(): Generator<Uint8Array> {
    for (const item of items(60, 10)) {
      const until = performance.now() + 2
      while (performance.now() < until);
      yield item
    }
  }
  for (const answer of [() => wholeAnswer(slowItems(), 'X'), () => collect(answerInChunks(slowItems()))]) {
    let turns = 0
    let isOver = false
    const others = () => {
      turns++
      if (!isOver) setImmediate(others)
    }
    setImmediate(others)
    await answer()
    isOver = true
    assert.ok(turns > 3, String(turns))
  }
})
