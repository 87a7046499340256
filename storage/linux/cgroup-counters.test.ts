import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { cpSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type CgroupLayout, cgroupLayout, createCgroup, joinCgroup, removeCgroup } from './cgroup.ts'
import { cgroupCounters, readTogether } from './cgroup-counters.ts'
import { cgroupDetails, containerDetails } from './cgroup-details.ts'
import { deviceTraffic, hugePageUse } from './cgroup-devices.ts'
import { heldFiles } from './held-file.ts'
import { killCgroup } from './kill-cgroup.ts'
import { scratch } from './testing/scratch.ts'

const testdata = join(import.meta.dirname, 'testdata')

/** Files as a host with version 1 has them, one directory for each controller. */
const v1: CgroupLayout = {
  version: 1,
  controllers: new Map(
    ['memory', 'cpuacct', 'cpu', 'pids', 'blkio', 'hugetlb'].map((name) => [name, join(testdata, 'cgroup-v1', name)]),
  ),
}
const v2Root = join(testdata, 'cgroup-v2')
const v2: CgroupLayout = {
  version: 2,
  controllers: new Map(['cpu', 'memory', 'pids', 'io', 'hugetlb'].map((name) => [name, v2Root])),
  unified: v2Root,
}

const C1 = '/pods/pod1/c1'
const MIB = 1024 * 1024
const memory = {
  usage: 22 * MIB,
  workingSet: 18 * MIB,
  rss: 8 * MIB,
  cache: 12 * MIB,
  mappedFile: 2 * MIB,
  activeFile: 6 * MIB,
  inactiveFile: 4 * MIB,
  pageFaults: 4321,
  majorPageFaults: 12,
  limit: 128 * MIB,
  swap: { usage: MIB, limit: 64 * MIB },
}

const countersOf = (t: TestContext, path: string, layout: CgroupLayout) => {
  const counters = cgroupCounters(path, true, layout)
  t.after(() => counters.close())
  return counters
}

test('both versions tell the same of a cgroup, but for pressure, which version 2 alone has', (t) => {
  const [one, two] = readTogether([countersOf(t, C1, v1), countersOf(t, C1, v2)])
  assert.deepEqual(one?.memory, memory)
  assert.deepEqual(two?.memory, memory)
  assert.deepEqual([one.tasks, two.tasks], [7, 7])
  assert.equal(one.cpuNs, 18014398509481984)
  assert.equal(two.cpuNs, 3_250_000_000)
  assert.deepEqual(two.pressure.cpu, {
    some: { avg10: 1.5, avg60: 0.75, avg300: 0.1, total: 987654 },
    full: { avg10: 0, avg60: 0, avg300: 0, total: 12 },
  })
  assert.equal(two.pressure.io?.full, undefined)
  assert.equal(two.pressure.io?.some.avg60, 3.25)
  assert.equal(one.pressure.cpu, undefined)
})

test('no limit is no number, and a host that does not count swap tells none', (t) => {
  const [one, two] = [countersOf(t, '/pods/pod2', v1).read(), countersOf(t, '/pods/pod2', v2).read()]
  assert.deepEqual([one.memory?.limit, one.memory?.swap], [undefined, undefined])
  assert.deepEqual([two.memory?.limit, two.memory?.swap], [undefined, { usage: 0, limit: undefined }])
  // More is inactive than is in use: files of another cgroup that this one reads.
  assert.equal(one.memory?.workingSet, 0)
})

test('both versions tell the same details', () => {
  for (const layout of [v1, v2]) {
    const details = cgroupDetails(C1, layout).read()
    assert.deepEqual(details.cpuTimes, { user: 2_500_000_000, system: 750_000_000 })
    assert.deepEqual(details.memory, { kernel: 655360, maxUsage: 48 * MIB, failures: 3, oomKills: 2 })
    assert.ok(containerDetails(C1, layout).read().hasTraffic)
    assert.deepEqual(deviceTraffic(C1, layout), [
      { major: 8, minor: 0, readBytes: 4096, writeBytes: 16384, reads: 1, writes: 4 },
      { major: 253, minor: 1, readBytes: 512, writeBytes: 0, reads: 1, writes: 0 },
    ])
    const [page] = hugePageUse(C1, layout)
    assert.deepEqual([page?.size, page?.usage, page?.failures], ['2MB', 4 * MIB, 9])
    const { throttledNs, ...counts } = details.throttling ?? {}
    assert.deepEqual(counts, { periods: 40, throttledPeriods: 5, burstPeriods: 1, burstNs: 2_000_000 })
    assert.equal(Math.floor((throttledNs ?? 0) / 1000), 123456)
  }
  const [one, two] = [containerDetails(C1, v1).read(), containerDetails(C1, v2).read()]
  assert.deepEqual([one.tasksLimit, two.tasksLimit, one.tasks, two.tasks], [undefined, 100, 7, 7])
  assert.deepEqual([hugePageUse(C1, v1)[0]?.maxUsage, hugePageUse(C1, v2)[0]?.maxUsage], [8 * MIB, undefined])
  // Neither a limit of its own, nor the sum of what an older kernel tells in parts.
  const other = cgroupDetails('/pods/pod2', v2).read()
  assert.deepEqual([other.throttling, other.memory.kernel], [undefined, 55])
})

test('of a cgroup that is not there nothing is told, and nothing thrown', (t) => {
  for (const layout of [v1, v2, { version: 1, controllers: new Map() } as const]) {
    const { pressure, ...use } = countersOf(t, '/pods/gone', layout).read()
    const { memory: of, ...details } = cgroupDetails('/pods/gone', layout).read()
    const { tasks, tasksLimit } = containerDetails('/pods/gone', layout).read()
    for (const told of [pressure, use, of, details, { tasks, tasksLimit }])
      assert.ok(Object.values(told).every((value) => value === undefined))
    assert.deepEqual([deviceTraffic('/pods/gone', layout), hugePageUse('/pods/gone', layout)], [[], []])
  }
})

test('files are opened once, follow what is in them, survive that they vanish, and are let go', (t) => {
  const dir = scratch(t)
  cpSync(v2Root, dir, { recursive: true })
  const counters = countersOf(t, C1, { ...v2, unified: dir })
  const before = heldFiles()
  assert.equal(counters.read().tasks, 7)
  const held = heldFiles()
  assert.ok(held > before)
  const file = join(dir, C1, 'pids.current')
  writeFileSync(file, '8\n')
  assert.deepEqual([counters.read().tasks, heldFiles()], [8, held])
  counters.close()
  assert.equal(heldFiles(), before)
  rmSync(join(dir, C1), { recursive: true })
  assert.deepEqual([counters.read().tasks, heldFiles()], [undefined, before])
})

test('a cgroup of the host can be removed while its counters are open, and made again', async (t) => {
  const host = cgroupLayout()
  if (!host.controllers.has('pids') && host.version !== 2) return t.skip('host lacks the pids controller')
  const path = `/cricket-counters-${process.pid}`
  t.after(async () => {
    await killCgroup(path)
    await removeCgroup(path)
  })
  createCgroup(path)
  const counters = countersOf(t, path, host)
  assert.equal(counters.read().tasks, 0)
  assert.equal(counters.read().cpuNs, 0)
  await removeCgroup(path)
  assert.equal(counters.read().tasks, undefined)
  createCgroup(path)
  assert.equal(counters.read().tasks, 0)
  const child = spawn('sleep', ['1000'], { stdio: 'ignore' })
  t.after(() => child.kill('SIGKILL'))
  assert.ok(child.pid !== undefined)
  joinCgroup(path, child.pid)
  assert.equal(counters.read().tasks, 1)
})
