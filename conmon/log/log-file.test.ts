import assert from 'node:assert/strict'
import {
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { mknod } from '#linux/mknod.ts'
import { mountTmpfs, unmount } from '#linux/mount.ts'
import { LogFile } from './log-file.ts'
import { now, parseRecords, recordsOf } from './testing/records.ts'

let dir = ''
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'cricket-log-'))
})
afterEach(() => rmSync(dir, { recursive: true }))

const path = () => join(dir, 'log')

const close = async (file: LogFile) => assert.equal(await file.syncAndClose(), undefined)

test('appends to what is there, and after a truncation by others at the new end', async () => {
  writeFileSync(path(), 'before\n')
  const file = now(LogFile.open(path()))
  assert.deepEqual(now(file.append(Buffer.from('one\n'), 4)), { content: 4 })
  writeFileSync(path(), '')
  now(file.append(Buffer.from('two\n'), 4))
  await close(file)
  assert.equal(readFileSync(path(), 'utf8'), 'two\n')
})

test('creates the file for its owner and group', async () => {
  await close(now(LogFile.open(path())))
  assert.equal(statSync(path()).mode & 0o777, 0o640)
})

test('refuses what is not a regular file, without waiting', () => {
  mknod(path(), { type: 'fifo', mode: 0o600 })
  assert.throws(() => now(LogFile.open(path())), { code: 'ENXIO' })
  symlinkSync('/etc/hostname', join(dir, 'link'))
  assert.throws(() => now(LogFile.open(join(dir, 'link'))), { code: 'ELOOP' })
  assert.throws(() => now(LogFile.open(dir)), { code: 'EISDIR' })
  mknod(join(dir, 'null'), { type: 'char', mode: 0o600, major: 1, minor: 3 })
  assert.throws(() => now(LogFile.open(join(dir, 'null'))), { code: 'EINVAL' })
})

test('follows no link below the trusted directory, and creates nothing through one', () => {
  mkdirSync(join(dir, 'trusted/pod'), { recursive: true })
  mkdirSync(join(dir, 'elsewhere'))
  symlinkSync(join(dir, 'elsewhere'), join(dir, 'trusted/pod/container'))
  const trusted = join(dir, 'trusted')
  assert.throws(() => now(LogFile.open(join(trusted, 'pod/container/0.log'), trusted)), { code: 'ELOOP' })
  assert.throws(() => now(LogFile.open(join(trusted, '../elsewhere/0.log'), trusted)), { code: 'EXDEV' })
  assert.deepEqual(readdirSync(join(dir, 'elsewhere')), [])
})

test('a FIFO is refused even when somebody reads it', () => {
  mknod(path(), { type: 'fifo', mode: 0o600 })
  const reader = openSync(path(), constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    assert.throws(() => now(LogFile.open(path())), { code: 'EINVAL' })
  } finally {
    closeSync(reader)
  }
})

test('all or nothing leaves nothing when not all of it fits', async () => {
  mountTmpfs(dir, { sizeBytes: 64 * 1024 })
  try {
    const file = now(LogFile.open(path()))
    const { batch, content } = recordsOf('some line of output\n'.repeat(1000))
    assert.equal(now(file.append(batch, content)).error, undefined)
    const { size } = statSync(path())
    assert.deepEqual(now(file.append(batch, content, true)), { content: 0, error: 'ENOSPC' })
    assert.equal(statSync(path()).size, size)
    await close(file)
  } finally {
    unmount(dir)
  }
})

test('on a full disk keeps whole records only, and says what was lost', async () => {
  mountTmpfs(dir, { sizeBytes: 64 * 1024 })
  try {
    const file = now(LogFile.open(path()))
    const { batch, content } = recordsOf('some line of output\n'.repeat(2000))
    const appended = now(file.append(batch, content))
    assert.equal(appended.error, 'ENOSPC')
    const kept = parseRecords(readFileSync(path()))
    assert.ok(kept.length > 0)
    assert.equal(Buffer.byteLength(kept.join('')), appended.content)
    assert.ok(kept.every((line) => line === 'some line of output\n'))
    const more = now(file.append(batch, content))
    assert.equal(more.error, 'ENOSPC')
    parseRecords(readFileSync(path()))
    await close(file)
  } finally {
    unmount(dir)
  }
})
