/** The typed command line against the real runtime. */
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { sanitise } from './complaint.ts'
import { runtimeCli } from './runtime-cli.ts'
import { Bundles, RUNC } from './spec/testing/bundle.ts'

const skip = existsSync(RUNC) && process.getuid?.() === 0 ? false : 'host lacks runc or root'
const bundles = new Bundles()
after(() => bundles[Symbol.asyncDispose]())

const SLEEP = 'exec sleep 1000'

test('a container that the runtime does not know: no state, nothing to kill, nothing to delete', { skip }, async () => {
  const { cli } = bundles
  assert.equal(await cli.state('nobody'), undefined)
  assert.equal(await cli.kill('nobody', 'KILL'), false)
  await cli.delete('nobody')
  await cli.delete('nobody', { force: true })
  await assert.rejects(cli.update('nobody', {}), (error) => isKind(error, 'not-found'))
  assert.deepEqual(await cli.list(), [])
})

test('a creation that broke off left a directory without state: unknown, and deletable', { skip }, async () => {
  mkdirSync(join(bundles.root, 'broken'), { recursive: true })
  assert.equal(await bundles.cli.state('broken'), undefined)
  await bundles.cli.delete('broken', { force: true })
  assert.equal(existsSync(join(bundles.root, 'broken')), false)
})

test('state, update, kill and delete follow a container to its end', { skip }, async (t) => {
  const { cli } = bundles
  const id = await bundles.start(SLEEP, { container: { linux: { resources: { cpuShares: 512 } } } })
  const state = await cli.state(id)
  assert.equal(state?.status, 'running')
  assert.ok(state?.pid)
  assert.ok((await cli.list()).some((each) => each.id === id))
  await t.test('update', { skip: bundles.host.cgroupVersion === 2 ? 'host lacks cgroup v1' : false }, async () => {
    await cli.update(id, { cpu: { shares: 256 } })
    assert.equal(readFileSync(`/sys/fs/cgroup/cpu/cricket-oci-test/${id}/cpu.shares`, 'utf8').trim(), '256')
  })
  await assert.rejects(cli.kill(id, 'NONSENSE'), (error) => isKind(error, 'failed-precondition'))
  await assert.rejects(cli.delete(id), (error) => isKind(error, 'failed-precondition'))
  assert.equal(await cli.kill(id, 'SIGKILL'), true)
  while ((await cli.state(id))?.status !== 'stopped') await new Promise((resolve) => setTimeout(resolve, 20))
  assert.equal(await cli.kill(id, 'SIGTERM'), false)
  await cli.delete(id)
  assert.equal(await cli.state(id), undefined)
})

test('features say what the runtime can do; a runtime without the command is no error', { skip }, async () => {
  const features = await bundles.cli.features()
  assert.equal(features?.recursiveReadOnlyMounts, true)
  assert.equal(features?.seccomp, true)
  assert.equal(await runtimeCli({ path: '/bin/false', root: bundles.root }).features(), undefined)
  const missing = runtimeCli({ path: '/no/such/runtime', root: bundles.root })
  await assert.rejects(missing.features(), { kind: 'failed-precondition', message: /no\/such\/runtime/ })
  const script = join(bundles.directory, 'odd-runtime')
  writeFileSync(script, '#!/bin/sh\necho "[]"\n', { mode: 0o755 })
  const odd = runtimeCli({ path: script, root: bundles.root })
  await assert.rejects(odd.features(), (error) => isKind(error, 'internal'))
})

test('sanitise() keeps the message of a log line and nothing that a terminal would obey', () => {
  const line = 'time="2026-01-01T00:00:00Z" level=error msg="runc create failed: \\"x\\" not found"\n'
  assert.equal(sanitise(Buffer.from(line)), 'runc create failed: "x" not found')
  assert.equal(sanitise(Buffer.from('\u001b[31mred\u001b[0m\r\nnext\u0000\u0007end')), 'red next end')
  assert.ok(sanitise(Buffer.alloc(100_000, 'x')).length <= 4096)
  assert.doesNotMatch(sanitise(Buffer.from([0xff, 0x41, 0x9b, 0x1b])), /[\u0000-\u001f\u0080-\u009f]/)
})
