import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { mknod } from '#linux/mknod.ts'
import { mountTmpfs, unmount } from '#linux/mount.ts'
import { LogFile } from './log-file.ts'
import { parseRecords, recordsOf } from './testing/records.ts'

let dir = ''
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'cricket-log-'))
})
afterEach(() => rmSync(dir, { recursive: true }))

const path = () => join(dir, 'log')

test('appends to what is there, and after a truncation by others at the new end', () => {
  writeFileSync(path(), 'before\n')
  const file = new LogFile(path())
  assert.deepEqual(file.append(Buffer.from('one\n'), 4), { content: 4 })
  writeFileSync(path(), '')
  file.append(Buffer.from('two\n'), 4)
  file.close()
  assert.equal(readFileSync(path(), 'utf8'), 'two\n')
})

test('creates the file for its owner and group', () => {
  new LogFile(path()).close()
  assert.equal(statSync(path()).mode & 0o777, 0o640)
})

test('refuses what is not a regular file, without waiting', () => {
  mknod(path(), { type: 'fifo', mode: 0o600 })
  assert.throws(() => new LogFile(path()), { code: 'ENXIO' })
  symlinkSync('/etc/hostname', join(dir, 'link'))
  assert.throws(() => new LogFile(join(dir, 'link')), { code: 'ELOOP' })
  assert.throws(() => new LogFile(dir), { code: 'EISDIR' })
  mknod(join(dir, 'null'), { type: 'char', mode: 0o600, major: 1, minor: 3 })
  assert.throws(() => new LogFile(join(dir, 'null')), { code: 'EINVAL' })
})

test('on a full disk keeps whole records only, and says what was lost', () => {
  mountTmpfs(dir, { sizeBytes: 64 * 1024 })
  try {
    const file = new LogFile(path())
    const { batch, content } = recordsOf('some line of output\n'.repeat(2000))
    const appended = file.append(batch, content)
    assert.equal(appended.error, 'ENOSPC')
    const kept = parseRecords(readFileSync(path()))
    assert.ok(kept.length > 0)
    assert.equal(Buffer.byteLength(kept.join('')), appended.content)
    assert.ok(kept.every((line) => line === 'some line of output\n'))
    const more = file.append(batch, content)
    assert.equal(more.error, 'ENOSPC')
    parseRecords(readFileSync(path()))
    file.close()
  } finally {
    unmount(dir)
  }
})
