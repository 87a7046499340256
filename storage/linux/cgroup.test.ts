import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import {
  type CgroupLayout,
  cgroupLayout,
  cgroupProcesses,
  containerCgroupPath,
  createCgroup,
  joinCgroup,
  oomKillCount,
  readCgroupFile,
  removeCgroup,
  writeCgroupFile,
} from './cgroup.ts'
import { layoutOf } from './cgroup-layout.ts'
import { killCgroup } from './kill-cgroup.ts'
import { parseMountInfoLine } from './mount-info.ts'
import { scratch } from './testing/scratch.ts'

const host = cgroupLayout()
let made = 0

/** A cgroup of the host for one test, killed and removed afterwards. */
const hostCgroup = (t: TestContext, layout = host): string => {
  const path = `/cricket-test-${process.pid}-${++made}`
  createCgroup(path, layout)
  t.after(async () => {
    await killCgroup(path, { layout })
    await removeCgroup(path, layout)
  })
  return path
}

/** A shell that does nothing before it has been moved into the cgroup. */
const startIn = (t: TestContext, path: string, script: string, layout = host): ChildProcess & { pid: number } => {
  const child = spawn('/bin/sh', ['-c', `read go; ${script}`], { stdio: ['pipe', 'ignore', 'ignore'] })
  t.after(() => child.kill('SIGKILL'))
  const { pid } = child
  assert.ok(pid !== undefined)
  joinCgroup(path, pid, layout)
  child.stdin.end('go\n')
  return Object.assign(child, { pid })
}

const mountTable = (text: string) =>
  text
    .trim()
    .split('\n')
    .flatMap((line) => parseMountInfoLine(line.trim()) ?? [])

test('layouts: v1, hybrid, v2', (t) => {
  const v1 = layoutOf(
    mountTable(`30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
      31 25 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd
      32 25 0:26 / /elsewhere rw - cgroup cgroup rw,cpu,cpuacct`),
  )
  assert.equal(v1.version, 1)
  assert.deepEqual(
    [...v1.controllers],
    [
      ['cpu', '/sys/fs/cgroup/cpu,cpuacct'],
      ['cpuacct', '/sys/fs/cgroup/cpu,cpuacct'],
      ['name=systemd', '/sys/fs/cgroup/systemd'],
    ],
  )
  const unified = scratch(t)
  writeFileSync(join(unified, 'cgroup.controllers'), 'cpu memory\n')
  const v2 = layoutOf(mountTable(`30 25 0:26 / ${unified} rw - cgroup2 cgroup2 rw,nsdelegate`))
  assert.deepEqual(v2, {
    version: 2,
    controllers: new Map([
      ['cpu', unified],
      ['memory', unified],
    ]),
    unified,
  })
  const hybrid = layoutOf(
    mountTable(`30 25 0:26 / /c/cpu rw - cgroup cgroup rw,cpu\n31 25 0:27 / ${unified} rw - cgroup2 none rw`),
  )
  assert.deepEqual(hybrid, {
    version: 'hybrid',
    controllers: new Map([
      ['cpu', '/c/cpu'],
      ['memory', unified],
    ]),
    unified,
  })
})

test('a cgroup is made, joined, read, written and removed in every hierarchy', async (t) => {
  const path = hostCgroup(t)
  const inner = `${path}/inner`
  createCgroup(inner)
  createCgroup(inner)
  const child = startIn(t, inner, 'sleep 60')
  for (const each of [path, inner]) assert.ok(cgroupProcesses(each).includes(child.pid))
  assert.equal(containerCgroupPath(child.pid), inner)
  assert.equal(oomKillCount(path), 0)
  for (const root of new Set(host.controllers.values())) assert.ok(existsSync(join(root, inner)), root)
  if (host.controllers.has('pids')) {
    writeCgroupFile('pids', inner, 'pids.max', '123')
    assert.equal(readCgroupFile('pids', inner, 'pids.max'), '123\n')
    assert.throws(() => writeCgroupFile('pids', inner, 'pids.max', 'nonsense'), { code: 'EINVAL' })
    assert.throws(() => writeCgroupFile('pids', inner, 'no.such.file', '1'), { code: 'ENOENT' })
  }
  assert.equal(readCgroupFile('no-such-controller', inner, 'x'), undefined)
  assert.equal(readCgroupFile('pids', `${path}/missing`, 'pids.max'), undefined)
  assert.throws(() => writeCgroupFile('no-such-controller', inner, 'x', '1'), { code: 'ENOENT' })
  await killCgroup(path)
  assert.deepEqual(cgroupProcesses(path), [])
  await removeCgroup(path)
  await removeCgroup(path)
  for (const root of new Set(host.controllers.values())) assert.ok(!existsSync(join(root, path)), root)
  assert.deepEqual(cgroupProcesses(path), [])
  assert.equal(oomKillCount(path), 0)
  await killCgroup(path)
  child.kill('SIGKILL')
  if (child.signalCode === null) await once(child, 'exit')
  assert.equal(containerCgroupPath(child.pid), undefined)
})

test('everything in it dies, forks in flight, deaf, stopped and nested ones too', async (t) => {
  const path = hostCgroup(t)
  createCgroup(`${path}/nested`)
  startIn(t, path, 'while :; do (trap "" TERM INT HUP; sleep 60) & sleep 0.01; done')
  startIn(t, `${path}/nested`, 'trap "" TERM; sleep 60 & kill -STOP $$')
  await delay(200)
  assert.ok(cgroupProcesses(path).length > 5)
  await killCgroup(path, { timeoutMs: 10_000 })
  await delay(50)
  assert.deepEqual(cgroupProcesses(path), [])
})

test('a frozen cgroup dies as well', async (t) => {
  if (!host.controllers.has('freezer')) return t.skip('host lacks the v1 freezer')
  const path = hostCgroup(t)
  startIn(t, path, 'sleep 60')
  writeCgroupFile('freezer', path, 'freezer.state', 'FROZEN')
  await killCgroup(path)
  assert.deepEqual(cgroupProcesses(path), [])
})

test('kills for want of memory are counted, those below too', async (t) => {
  const memory = host.controllers.get('memory')
  if (memory === undefined || memory === host.unified) return t.skip('host lacks the v1 memory controller')
  const path = hostCgroup(t)
  createCgroup(`${path}/inner`)
  writeCgroupFile('memory', path, 'memory.limit_in_bytes', String(8 * 1024 * 1024))
  const child = startIn(t, `${path}/inner`, 'head -c 67108864 /dev/zero | tail')
  await once(child, 'exit')
  assert.ok(oomKillCount(path) >= 1)
})

test('paths that lead elsewhere are refused', async () => {
  for (const path of ['relative', '/a/../../b', '', '/a\0b', '..']) {
    assert.throws(() => createCgroup(path), { code: 'EINVAL' })
    await assert.rejects(removeCgroup(path), { code: 'EINVAL' })
    assert.throws(() => cgroupProcesses(path), { code: 'EINVAL' })
  }
  for (const path of ['/', '//', '/.']) await assert.rejects(removeCgroup(path), { code: 'EINVAL' })
  const [own] = cgroupProcesses('/').filter((pid) => pid === process.pid)
  if (own !== undefined) await assert.rejects(killCgroup('/'), { kind: 'failed-precondition' })
})

/** The real v2 tree of the host, which has few or no controllers on a hybrid one, posing as all there is. */
const realV2 = (t: TestContext): CgroupLayout | undefined => {
  const { unified } = host
  if (unified !== undefined) return { version: 2, controllers: new Map(), unified }
  t.skip('host lacks cgroup v2')
  return undefined
}

test('v2, real tree: made, joined, killed by cgroup.kill, removed', async (t) => {
  const layout = realV2(t)
  if (layout === undefined) return
  const path = hostCgroup(t, layout)
  createCgroup(`${path}/a/b`, layout)
  const child = startIn(t, `${path}/a/b`, 'while :; do sleep 60 & sleep 0.05; done', layout)
  await delay(100)
  assert.equal(containerCgroupPath(child.pid, layout), `${path}/a/b`)
  assert.ok(cgroupProcesses(path, layout).includes(child.pid))
  assert.match(readCgroupFile('any', path, 'cgroup.events', layout) ?? '', /populated 1/)
  await killCgroup(path, { layout })
  assert.match(readCgroupFile('any', path, 'cgroup.events', layout) ?? '', /populated 0/)
  await removeCgroup(path, layout)
  assert.equal(existsSync(join(layout.unified ?? '', path)), false)
})

test('v2, fixture: controllers are passed on at every level, files are read where they are', (t) => {
  const unified = scratch(t)
  writeFileSync(join(unified, 'cgroup.controllers'), 'cpu memory pids')
  writeFileSync(join(unified, 'cgroup.subtree_control'), '')
  mkdirSync(join(unified, 'pod'))
  writeFileSync(join(unified, 'pod/cgroup.controllers'), 'memory')
  writeFileSync(join(unified, 'pod/cgroup.subtree_control'), '')
  const layout: CgroupLayout = { version: 2, controllers: new Map([['memory', unified]]), unified }
  createCgroup('/pod/ctr', layout)
  // A real file takes them all; this one keeps the last.
  assert.equal(readFileSync(join(unified, 'cgroup.subtree_control'), 'utf8'), '+pids')
  assert.equal(readFileSync(join(unified, 'pod/cgroup.subtree_control'), 'utf8'), '+memory')
  assert.deepEqual(readdirSync(join(unified, 'pod/ctr')), [])
  writeFileSync(join(unified, 'pod/memory.events'), 'low 0\noom 5\noom_kill 3\noom_group_kill 9\n')
  assert.equal(oomKillCount('/pod', layout), 3)
  assert.equal(oomKillCount('/pod/ctr', layout), 0)
  writeFileSync(join(unified, 'pod/memory.max'), 'max')
  writeCgroupFile('memory', '/pod', 'memory.max', '1024', layout)
  assert.equal(readCgroupFile('memory', '/pod', 'memory.max', layout), '1024')
  writeFileSync(join(unified, 'pod/cgroup.procs'), '')
  writeFileSync(join(unified, 'pod/ctr/cgroup.procs'), '11\n0\n12\n')
  assert.deepEqual(cgroupProcesses('/pod', layout), [11, 12])
})

test('v2 without cgroup.kill: members are signalled one by one, until the deadline', async (t) => {
  const unified = scratch(t)
  const layout: CgroupLayout = { version: 2, controllers: new Map(), unified }
  const child = spawn('/bin/sleep', ['60'], { stdio: 'ignore' })
  t.after(() => child.kill('SIGKILL'))
  mkdirSync(join(unified, 'pod'))
  writeFileSync(join(unified, 'pod/cgroup.procs'), `${child.pid}\n`)
  const killing = killCgroup('/pod', { layout, timeoutMs: 10_000 })
  assert.deepEqual(await once(child, 'exit'), [null, 'SIGKILL'])
  writeFileSync(join(unified, 'pod/cgroup.procs'), '')
  await killing
  writeFileSync(join(unified, 'pod/cgroup.procs'), `${child.pid}\n`)
  await assert.rejects(killCgroup('/pod', { layout, timeoutMs: 30 }), { kind: 'deadline-exceeded' })
  await assert.rejects(killCgroup('/pod', { layout, abort: AbortSignal.abort() }), { name: 'AbortError' })
})

test('a busy cgroup is removed as soon as it is empty', async (t) => {
  const path = hostCgroup(t)
  const child = startIn(t, path, 'sleep 60')
  const removing = removeCgroup(path)
  await delay(30)
  await killCgroup(path)
  await removing
  assert.equal(containerCgroupPath(child.pid) === path, false)
})
