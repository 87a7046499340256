import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  fsyncDirectory,
  readFileIfExists,
  readFileIfExistsSync,
  writeFileAtomic,
  writeFileAtomicSync,
} from './atomic-file.ts'
import { mountTmpfs } from './mount.ts'
import { scratch } from './testing/scratch.ts'

const writers = {
  async: writeFileAtomic,
  sync: async (...args: Parameters<typeof writeFileAtomicSync>) => writeFileAtomicSync(...args),
}

for (const [name, write] of Object.entries(writers)) {
  test(`${name}: replaces content, sets the exact mode, leaves nothing else`, async (t) => {
    const directory = scratch(t)
    const path = join(directory, 'record.json')
    const umask = process.umask(0o077)
    t.after(() => process.umask(umask))
    await write(path, 'one')
    assert.equal(statSync(path).mode & 0o7777, 0o600)
    await write(path, Buffer.from('two'), { mode: 0o644, durable: true })
    assert.equal(readFileSync(path, 'utf8'), 'two')
    assert.equal(statSync(path).mode & 0o7777, 0o644)
    assert.deepEqual(readdirSync(directory), ['record.json'])
  })

  test(`${name}: a full disk leaves the old content and no debris`, async (t) => {
    const directory = scratch(t)
    mountTmpfs(directory, { sizeBytes: 64 * 1024 })
    const path = join(directory, 'record')
    await write(path, 'old')
    await assert.rejects(write(path, Buffer.alloc(256 * 1024)), { code: 'ENOSPC' })
    assert.equal(readFileSync(path, 'utf8'), 'old')
    assert.deepEqual(readdirSync(directory), ['record'])
  })

  test(`${name}: does not write through a symbolic link, nor over a directory`, async (t) => {
    const directory = scratch(t)
    writeFileSync(join(directory, 'victim'), 'untouched')
    symlinkSync('victim', join(directory, 'link'))
    await write(join(directory, 'link'), 'new')
    assert.equal(readFileSync(join(directory, 'victim'), 'utf8'), 'untouched')
    mkdirSync(join(directory, 'sub'))
    await assert.rejects(write(join(directory, 'sub'), 'x'), { code: 'EISDIR' })
    assert.deepEqual(readdirSync(directory).sort(), ['link', 'sub', 'victim'])
  })
}

const readers = {
  async: readFileIfExists,
  sync: async (...args: Parameters<typeof readFileIfExistsSync>) => readFileIfExistsSync(...args),
}

for (const [name, read] of Object.entries(readers)) {
  test(`${name} read: content, absence, limit, and no waiting on a FIFO`, async (t) => {
    const directory = scratch(t)
    writeFileSync(join(directory, 'file'), 'text')
    writeFileSync(join(directory, 'empty'), '')
    execFileSync('/usr/bin/mkfifo', [join(directory, 'fifo')])
    assert.deepEqual(await read(join(directory, 'file')), Buffer.from('text'))
    assert.deepEqual(await read(join(directory, 'file'), 4), Buffer.from('text'))
    assert.deepEqual(await read(join(directory, 'empty')), Buffer.alloc(0))
    assert.equal(await read(join(directory, 'missing')), undefined)
    assert.equal(await read(join(directory, 'file/below')), undefined)
    await assert.rejects(read(join(directory, 'file'), 3), { code: 'EFBIG' })
    await assert.rejects(read(join(directory, 'fifo')), { code: 'EINVAL' })
    await assert.rejects(read(directory), { code: 'EINVAL' })
  })
}

test('fsyncDirectory syncs a directory and refuses files', (t) => {
  const directory = scratch(t)
  writeFileSync(join(directory, 'file'), '')
  fsyncDirectory(directory)
  assert.throws(() => fsyncDirectory(join(directory, 'file')), { code: 'ENOTDIR' })
})
