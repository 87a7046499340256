import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { describe, it, type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { linux } from '#linux/linux.ts'
import { RuntimeError } from '#proto/errors.ts'
import { parseConfigDump, parseDeletedFiles } from './archive.ts'
import { complaints } from './dump-container.ts'
import { hiddenFiles } from './hidden-files.ts'
import { readLocation, writeAt } from './location.ts'

const isRefusal = (error: unknown): boolean => error instanceof RuntimeError && error.kind === 'failed-precondition'

/** Below a directory that only root can write to, unlike /tmp. */
const scratch = (t: TestContext): string => {
  const directory = mkdtempSync(join(homedir(), '.cricket-checkpoint-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

test('documents of any content are read or refused, without a word of theirs in the message', () => {
  const values = fc.oneof(
    fc.json(),
    fc.string(),
    fc.uint8Array().map((bytes) => Buffer.from(bytes).toString('latin1')),
  )
  fc.assert(
    fc.property(values, (text) => {
      for (const parse of [parseConfigDump, parseDeletedFiles]) {
        try {
          parse(Buffer.from(text, 'latin1'))
        } catch (error) {
          assert.ok(isRefusal(error), String(error))
        }
      }
    }),
    { numRuns: 300 },
  )
  assert.throws(() => parseConfigDump(Buffer.from('{"id":{"evil\\u001b[2J":1}}')), /"config\.dump" is not valid: id$/)
  assert.throws(() => parseDeletedFiles(Buffer.from([0x5b, 0x22, 0xff, 0x22, 0x5d])), isRefusal)
  assert.deepEqual(parseDeletedFiles(Buffer.from('["é"]')), ['Ã©'])
  assert.equal(parseConfigDump(Buffer.from('{"id":"a","name":"b","unknown":{}}')).rootfsImageRef, '')
})

describe('what a writable layer hides', () => {
  const layers = (t: TestContext) => {
    const directory = scratch(t)
    const [upper, low, lowest] = ['upper', 'low', 'lowest'].map((name) => join(directory, name)) as [
      string,
      string,
      string,
    ]
    for (const path of [upper, low, lowest]) mkdirSync(path)
    return { upper, low, lowest, directory }
  }

  it('is told by whiteouts, and name by name where a directory hides all', (t) => {
    const { upper, low, lowest } = layers(t)
    for (const path of ['d/sub/deep', 'd/other']) mkdirSync(join(low, path), { recursive: true })
    for (const path of ['d/sub/x', 'd/sub/kept', 'd/file']) writeFileSync(join(low, path), '')
    mkdirSync(join(lowest, 'd/third'), { recursive: true })
    mkdirSync(join(upper, 'd/sub'), { recursive: true })
    for (const path of ['d/sub/kept', 'd/new', 'd/other']) writeFileSync(join(upper, path), '')
    const hidden = hiddenFiles({ linux }, { upper, lower: [low, lowest], whiteouts: ['gone'], opaque: ['d'] })
    assert.deepEqual(hidden.sort(), ['d/file', 'd/sub/deep', 'd/sub/x', 'd/third', 'gone'])
  })

  it('is looked for in the layers alone, through no link', (t) => {
    const { upper, low, lowest, directory } = layers(t)
    mkdirSync(join(directory, 'host'))
    writeFileSync(join(directory, 'host/secret'), '')
    symlinkSync(join(directory, 'host'), join(low, 'd'))
    symlinkSync('../host', join(lowest, 'd'))
    mkdirSync(join(upper, 'd'))
    assert.deepEqual(hiddenFiles({ linux }, { upper, lower: [low, lowest], whiteouts: [], opaque: ['d'] }), [])
  })

  it('cannot be told by a name that is not UTF-8', (t) => {
    const { upper } = layers(t)
    const hiding = { upper, lower: [], whiteouts: ['\xff'], opaque: [] }
    assert.throws(() => hiddenFiles({ linux }, hiding), isRefusal)
    assert.deepEqual(hiddenFiles({ linux }, { ...hiding, whiteouts: ['Ã©'] }), ['é'])
  })
})

describe('where an archive goes', () => {
  it('is a directory in which nobody but root has a hand', (t) => {
    const directory = scratch(t)
    assert.deepEqual(readLocation(join(directory, 'a.tar'), []), { dir: directory, name: 'a.tar' })
    assert.deepEqual(readLocation('/tmp/a.tar', []), { dir: '/tmp', name: 'a.tar' })
    const [foreign, open, link] = ['foreign', 'open', 'link'].map((name) => join(directory, name)) as [
      string,
      string,
      string,
    ]
    mkdirSync(foreign)
    mkdirSync(join(foreign, 'below'))
    mkdirSync(open)
    mkdirSync(join(open, 'below'))
    chmodSync(open, 0o775)
    symlinkSync(directory, link)
    assert.deepEqual(readLocation(join(link, 'a.tar'), []).dir, directory)
    execFileSync('chown', ['1000', foreign])
    execFileSync('chown', ['--no-dereference', '1000', link])
    for (const path of [foreign, join(foreign, 'below'), open, join(open, 'below'), link, '/proc/self/nothing']) {
      assert.throws(() => readLocation(join(path, 'a.tar'), []), isRefusal, path)
    }
    assert.throws(() => readLocation(join(directory, 'a.tar'), [directory]), isRefusal)
    assert.doesNotThrow(() => readLocation(join(directory, 'a.tar'), [`${directory}/a`]))
  })

  it('is refused, never changed, when it is no tidy path', () => {
    for (const text of ['', 'a', './a', '/a/../b', '/a/./b', '/a//b', '/a/', '/', '/a\0b', `/${'a'.repeat(5000)}`])
      assert.throws(() => readLocation(text, []), { kind: 'invalid-argument' }, text.slice(0, 20))
  })

  it('gets a whole file of root’s, or none', async (t) => {
    const directory = scratch(t)
    const place = { dir: directory, name: 'a.tar' }
    symlinkSync('/etc/passwd', join(directory, 'a.tar'))
    await assert.rejects(
      writeAt(place, async (fd) => {
        writeFileSync(fd, 'half')
        throw new Error('no more')
      }),
      /no more/,
    )
    assert.deepEqual(readdirSync(directory), ['a.tar'])
    assert.ok(lstatSync(join(directory, 'a.tar')).isSymbolicLink())
    await writeAt(place, async (fd) => writeFileSync(fd, 'whole'))
    const stat = lstatSync(join(directory, 'a.tar'))
    assert.deepEqual([stat.isFile(), stat.mode & 0o7777, stat.size], [true, 0o600, 5])
    assert.deepEqual(readdirSync(directory), ['a.tar'])
  })
})

test('of what CRIU says its errors are told, or the end when it calls nothing an error', () => {
  const errors = Array.from({ length: 20 }, (_, index) => `(00.1) Error (criu/x.c:${index}): no`)
  assert.deepEqual(complaints(['(00.0) a', ...errors, '(00.2) b']), errors.slice(10))
  assert.deepEqual(complaints(['a', 'b']), ['a', 'b'])
  assert.equal(complaints(['x'.repeat(1000)])[0]?.length, 300)
})
