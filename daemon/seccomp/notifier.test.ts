/** What becomes of a notifier's sockets, whatever happens to its containers. */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { silentLog } from '#proto/log.ts'
import { callName } from './call-name.ts'
import { SeccompNotifier } from './notifier.ts'

const scratch = (t: TestContext): string => {
  const dir = mkdtempSync(join(tmpdir(), 'cricket-notifier-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

const openFiles = (): number => readdirSync('/proc/self/fd').length

test('a container that is forgotten leaves neither socket nor descriptor, however often', (t) => {
  const dir = scratch(t)
  const notifier = new SeccompNotifier(silentLog)
  const before = openFiles()
  for (let round = 0; round < 3; round++) {
    notifier.watch('a', join(dir, 'a'), 'log')
    notifier.watch('a', join(dir, 'a'), 'stop')
    notifier.watch('b', join(dir, 'b'), 'stop')
    assert.equal(notifier.verdict('a'), undefined)
    notifier.forget('a')
    notifier.forget('a')
    notifier.forget('b')
    assert.equal(existsSync(join(dir, 'a')), false)
  }
  assert.equal(openFiles(), before)
})

test('a container whose directory is gone is forgotten all the same', (t) => {
  const dir = scratch(t)
  const notifier = new SeccompNotifier(silentLog)
  notifier.watch('a', join(dir, 'a'), 'log')
  rmSync(dir, { recursive: true })
  notifier.forget('a')
})

test('calls are told by name where it is known, and by number else', () => {
  assert.equal(callName(165, 0xc000003e), 'mount')
  assert.equal(callName(40, 0xc00000b7), 'system call 40 of machine 0xc00000b7')
})
