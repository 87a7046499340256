import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readlinkSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { heldFiles } from './held-file.ts'
import { type Names, NumberFiles, names, readNumbers } from './number-files.ts'
import { scratch } from './testing/scratch.ts'

const NUMBER = names('')

/** A directory with these files, and a reader of one of them. */
const place = (t: TestContext, texts: Record<string, string>) => {
  const dir = scratch(t)
  for (const [name, text] of Object.entries(texts)) writeFileSync(join(dir, name), text)
  const reader = (file: string, wanted: Names = NUMBER, isKept = false) => {
    const files = new NumberFiles([wanted], () => join(dir, file), { isKept })
    t.after(() => files.close())
    return files
  }
  return { dir, reader, numbers: (file: string, wanted?: Names) => [...readNumbers([reader(file, wanted)])] }
}

/** Where the descriptors of this process lead. */
const openFiles = (): string[] =>
  readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)]
    } catch {
      return []
    }
  })

test('a number alone in its file is found, and what is none is no number', (t) => {
  const texts = {
    plain: '4096\n',
    zero: '0',
    max: 'max\n',
    negative: '-1\n',
    quota: '50000 100000\n',
    empty: '',
    large: '18446744073709551615\n',
    larger: '99999999999999999999999999\n',
    exact: '9007199254740991\n',
  }
  const { numbers } = place(t, texts)
  const found = Object.fromEntries(Object.keys(texts).map((name) => [name, numbers(name)[0]]))
  assert.deepEqual(found, {
    plain: 4096,
    zero: 0,
    max: Number.NaN,
    negative: Number.NaN,
    quota: 50000,
    empty: Number.NaN,
    large: 2 ** 64,
    larger: 2 ** 64,
    exact: Number.MAX_SAFE_INTEGER,
  })
  assert.deepEqual(numbers('missing'), [Number.NaN])
})

test('numbers are found behind names, in the order of the file or not, at the beginning of lines only', (t) => {
  const { numbers } = place(t, {
    stat: 'cache 1\nrss 2\nrss_huge 3\ntotal_cache 4\ntotal_rss 5\n',
    table: 'cache 1 rss 7\nrss 2\n',
  })
  assert.deepEqual(numbers('table', names('cache ', 'rss ')), [1, 2])
  assert.deepEqual(numbers('stat', names('cache ', 'rss ', 'total_rss ')), [1, 2, 5])
  assert.deepEqual(numbers('stat', names('total_rss ', 'rss ', 'cache ')), [5, 2, 1])
  assert.deepEqual(numbers('stat', names('huge ', 'total_cache ', 'swap ', 'rss_huge ')), [
    Number.NaN,
    4,
    Number.NaN,
    3,
  ])
})

test('further names of a line are found in that line alone', (t) => {
  const { numbers } = place(t, {
    pressure: 'some avg10=0.29 avg60=12.34 total=987654\nfull avg10=100.00 total=12\n',
    device: '  eth0: 1 2\n    lo:3 4\n',
  })
  const wanted = names('some avg10=', ' avg60=', ' total=', 'full avg10=', ' avg60=', ' total=', 'none ', ' total=')
  assert.deepEqual(numbers('pressure', wanted), [
    ...[0.29, 12.34, 987654, 100],
    ...[Number.NaN, Number.NaN, Number.NaN, Number.NaN],
  ])
  assert.deepEqual(numbers('device', names('eth0:', ' ', ' ', 'lo:', ' ')), [1, 2, Number.NaN, 3, 4])
})

test('kept files stay open, follow what replaces them, and are let go', (t) => {
  const { dir, reader } = place(t, { one: '1\n', next: '2\n' })
  const before = heldFiles()
  const [kept, passing] = [reader('one', NUMBER, true), reader('next')]
  assert.deepEqual([...readNumbers([kept, passing])], [1, 2])
  assert.equal(heldFiles(), before + 1)
  // What is open stays what it is, as long as it can be read.
  renameSync(join(dir, 'next'), join(dir, 'one'))
  assert.deepEqual([...readNumbers([kept, passing])], [1, Number.NaN])
  kept.close()
  assert.equal(heldFiles(), before)
  assert.deepEqual([...readNumbers([kept])], [2])
  kept.close()
  rmSync(join(dir, 'one'))
  assert.deepEqual([[...readNumbers([kept])], heldFiles()], [[Number.NaN], before])
})

test('one that cannot be read is an error with its path, and nothing that was opened beside it is lost', (t) => {
  const { dir, reader } = place(t, { one: '1\n', two: '2\n' })
  mkdirSync(join(dir, 'directory'))
  const isOpen = () => openFiles().some((path) => path.startsWith(dir))
  const before = heldFiles()
  const [one, bad, two] = ['one', 'directory', 'two'].map((name) => reader(name, NUMBER, true))
  assert.ok(one && bad && two)
  assert.throws(() => readNumbers([one, bad, two]), { code: 'EISDIR', path: join(dir, 'directory') })
  assert.equal(heldFiles(), before + 2)
  const long = new NumberFiles([NUMBER], () => `/${'x'.repeat(5000)}`, { isKept: true })
  assert.throws(() => readNumbers([long]), { code: 'ENAMETOOLONG' })
  assert.ok(isOpen())
  for (const files of [one, bad, two, long]) files.close()
  assert.deepEqual([heldFiles(), isOpen()], [before, false])
})

test('thousands are read, and no more are kept open than may be', (t) => {
  const { dir } = place(t, { stat: 'a 1\nb 2\n' })
  const wanted = names('a ', 'b ')
  const before = heldFiles()
  const many = Array.from(
    { length: 2500 },
    (_, n) =>
      new NumberFiles([wanted, NUMBER], (file) => join(dir, file === 0 ? 'stat' : `none-${n}`), { isKept: true }),
  )
  const more = Array.from({ length: 2500 }, () => new NumberFiles([wanted], () => join(dir, 'stat'), { isKept: true }))
  for (let round = 0; round < 2; round++) {
    const all = readNumbers([...many, ...more])
    assert.equal(all.length, 2500 * 5)
    assert.ok(
      all.every(
        (value, at) => (at < 7500 ? [1, 2, Number.NaN][at % 3] : [1, 2][at % 2]) === value || Number.isNaN(value),
      ),
    )
    assert.equal(all.filter(Number.isNaN).length, 2500)
    assert.equal(heldFiles(), 4096)
  }
  for (const files of [...many, ...more]) files.close()
  assert.equal(heldFiles(), before)
})

test('what is longer than any file of the kernel is cut', (t) => {
  const { numbers } = place(t, { long: `first 1\n${'x'.repeat(40_000)}\nlast 2\n` })
  assert.deepEqual(numbers('long', names('first ', 'last ')), [1, Number.NaN])
})
