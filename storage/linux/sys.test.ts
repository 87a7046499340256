import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { errnoName, isErrno, LinuxError } from './errno.ts'
import { addr, asideEvent, asideOver, rawSys, rawSysAside, type SysArgument, sys, sysAsync, sysOn } from './sys.ts'

const root = join(import.meta.dirname, '../..')

test('sys returns the result, rawSys -errno', () => {
  assert.equal(sys('getppid'), process.ppid)
  assert.equal(rawSys('chdir', '/does-not-exist'), -2)
})

test('a failed call throws what Node would throw', () => {
  assert.throws(
    () => sysOn('/does-not-exist', 'chdir', '/does-not-exist'),
    (error) => {
      assert.ok(error instanceof LinuxError)
      const { code, errno, syscall, path } = error
      assert.deepEqual(
        { code, errno, syscall, path },
        { code: 'ENOENT', errno: -2, syscall: 'chdir', path: '/does-not-exist' },
      )
      return true
    },
  )
})

test('arguments that are no integers, strings, buffers or null are refused', async () => {
  const bad: unknown[] = [
    1.5,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    2 ** 60,
    1n << 70n,
    'a\0b',
    {},
    [],
    true,
    Symbol('x'),
  ]
  for (const value of bad) {
    assert.throws(() => sys('getppid', value as SysArgument), TypeError)
    // After a good string and a Buffer, so that what was converted before is given back.
    await assert.rejects(sysAsync('getppid', 'text', Buffer.alloc(1), value as SysArgument), TypeError)
  }
  assert.throws(() => sys('getppid', 1, 2, 3, 4, 5, 6, 7), TypeError)
  assert.throws(() => addr('text' as unknown as Uint8Array), TypeError)
  assert.equal(sys('getppid', null, 2 ** 53 - 1, 0xffff_ffff_ffff_ffffn, -1n, '', Buffer.alloc(0)), process.ppid)
})

test('sysAsync runs beside the event loop and keeps its buffers', async () => {
  assert.equal(await sysAsync('getppid'), process.ppid)
  await assert.rejects(sysAsync('chdir', '/does-not-exist'), { code: 'ENOENT', syscall: 'chdir' })
  const many = Array.from({ length: 200 }, () => sysAsync('statfs', '/', Buffer.alloc(120)))
  assert.deepEqual(new Set(await Promise.all(many)), new Set([0]))
})

test('a call made aside is waited for as long as was said, and told of when it is over after all', async () => {
  assert.equal(rawSysAside(1000, 'getppid'), process.ppid)
  assert.equal(rawSysAside(1000, 'close', -1), -9)
  const halfASecond = Buffer.alloc(16)
  halfASecond.writeBigInt64LE(500_000_000n, 8)
  assert.equal(rawSysAside(1, 'nanosleep', halfASecond, null), undefined)
  assert.equal(asideOver(), undefined)
  assert.throws(() => rawSysAside(1000, 'getppid'), /not to be had/)
  const said = Buffer.alloc(8)
  assert.equal(rawSys('read', asideEvent(), said, 8), -11)
  while (rawSys('read', asideEvent(), said, 8) < 0) await new Promise((resolve) => setTimeout(resolve, 20))
  assert.equal(asideOver(), 0)
  assert.equal(rawSysAside(1000, 'getppid'), process.ppid)
})

test('the addon works in worker threads', async () => {
  const url = JSON.stringify(new URL('./sys.ts', import.meta.url).href)
  const code = `const { parentPort } = require('node:worker_threads'); import(${url}).then(({ sys }) => parentPort.postMessage(sys('getppid')))`
  const { promise, resolve, reject } = Promise.withResolvers<unknown>()
  const worker = new Worker(code, { eval: true })
  worker.once('message', resolve).once('error', reject)
  assert.equal(await promise, process.ppid)
  await worker.terminate()
})

test('the same addon loads in Bun', (t) => {
  const bun = ['x64', 'aarch64']
    .map((arch) => join(root, `node_modules/@oven/bun-linux-${arch}/bin/bun`))
    .find(existsSync)
  if (bun === undefined) return t.skip('host lacks Bun')
  const code = `const { sys, sysAsync, addr } = await import('./storage/linux/sys.ts'); const { readFileSync } = require('node:fs')
    let caught; try { sys('chdir', '/does-not-exist') } catch (error) { caught = error.code }
    console.log(sys('getppid') === process.ppid, await sysAsync('getppid') === process.ppid, typeof addr(Buffer.alloc(4)), caught)`
  const output = execFileSync(bun, ['-e', code], { cwd: root, encoding: 'utf8' })
  assert.equal(output.trim(), 'true true bigint ENOENT')
})

test('errno names and codes', () => {
  assert.equal(errnoName(2), 'ENOENT')
  assert.equal(errnoName(-11), 'EAGAIN')
  assert.equal(errnoName(95), 'ENOTSUP')
  assert.equal(errnoName(117), 'EUCLEAN')
  assert.equal(errnoName(9999), 'ERRNO9999')
  assert.ok(isErrno(new LinuxError('EWOULDBLOCK', 'flock'), 'EAGAIN'))
  assert.ok(isErrno(new LinuxError('ENOTSUP', 'x'), 'ENOENT', 'EOPNOTSUPP'))
  assert.ok(!isErrno(new Error('ENOENT'), 'ENOENT'))
  assert.ok(!isErrno(undefined, 'ENOENT'))
})
