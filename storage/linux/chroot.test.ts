import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { confineThread } from './chroot.ts'
import { scratch } from './testing/scratch.ts'

test('a confined worker sees its directory as "/", the rest of the process does not', async (t) => {
  const root = join(scratch(t), 'root')
  mkdirSync(root)
  writeFileSync(join(root, 'inside'), '')
  symlinkSync('/etc/passwd', join(root, 'link'))
  const code = `const { parentPort } = require('node:worker_threads'), fs = require('node:fs')
    import(${JSON.stringify(new URL('./chroot.ts', import.meta.url).href)}).then(({ confineThread }) => {
      confineThread(${JSON.stringify(root)})
      let link; try { link = fs.readFileSync('/link', 'utf8') } catch (error) { link = error.code }
      parentPort.postMessage({ names: fs.readdirSync('/'), up: fs.readdirSync('../../..'), here: fs.readdirSync('.'), link })
      fs.writeFileSync('/made', '')
    })`
  const worker = new Worker(code, { eval: true })
  const exited = once(worker, 'exit')
  const { promise, resolve, reject } = Promise.withResolvers<unknown>()
  worker.once('message', resolve).once('error', reject)
  const names = ['inside', 'link']
  assert.deepEqual(await promise, { names, up: names, here: names, link: 'ENOENT' })
  assert.ok(existsSync(root))
  assert.ok(readdirSync('/').includes('proc'))
  await exited
  assert.ok(existsSync(join(root, 'made')))
})

test('the main thread is never confined', () => {
  assert.throws(() => confineThread('/'), { message: 'only a worker thread may be confined' })
})
