import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { cpSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type CgroupLayout, cgroupLayout, createCgroup, joinCgroup, removeCgroup } from './cgroup.ts'
import { cgroupCounters } from './cgroup-counters.ts'
import { cpuTimes, deviceTraffic, hugePageUse, memoryDetails, tasksLimit, throttling } from './cgroup-details.ts'
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
  const counters = cgroupCounters(path, layout)
  t.after(() => counters.close())
  return counters
}

test('both versions tell the same of a cgroup, but for pressure, which version 2 alone has', (t) => {
  const [one, two] = [countersOf(t, C1, v1), countersOf(t, C1, v2)]
  assert.deepEqual(one.memory(), memory)
  assert.deepEqual(two.memory(), memory)
  assert.deepEqual([one.tasks(), two.tasks()], [7, 7])
  assert.equal(one.cpuUsage(), 18014398509481984)
  assert.equal(two.cpuUsage(), 3_250_000_000)
  assert.deepEqual(two.pressure('cpu'), {
    some: { avg10: 1.5, avg60: 0.75, avg300: 0.1, total: 987654 },
    full: { avg10: 0, avg60: 0, avg300: 0, total: 12 },
  })
  assert.equal(two.pressure('io')?.full, undefined)
  assert.equal(two.pressure('io')?.some.avg60, 3.25)
  assert.equal(one.pressure('cpu'), undefined)
})

test('no limit is no number, and a host that does not count swap tells none', (t) => {
  const [one, two] = [countersOf(t, '/pods/pod2', v1), countersOf(t, '/pods/pod2', v2)]
  assert.deepEqual([one.memory()?.limit, one.memory()?.swap], [undefined, undefined])
  assert.deepEqual([two.memory()?.limit, two.memory()?.swap], [undefined, { usage: 0, limit: undefined }])
  // More is inactive than is in use: files of another cgroup that this one reads.
  assert.equal(one.memory()?.workingSet, 0)
})

test('both versions tell the same details', () => {
  for (const layout of [v1, v2]) {
    assert.deepEqual(cpuTimes(C1, layout), { user: 2_500_000_000, system: 750_000_000 })
    assert.deepEqual(memoryDetails(C1, layout), { kernel: 655360, maxUsage: 48 * MIB, failures: 3, oomKills: 2 })
    assert.deepEqual(deviceTraffic(C1, layout), [
      { major: 8, minor: 0, readBytes: 4096, writeBytes: 16384, reads: 1, writes: 4 },
      { major: 253, minor: 1, readBytes: 512, writeBytes: 0, reads: 1, writes: 0 },
    ])
    const [page] = hugePageUse(C1, layout)
    assert.deepEqual([page?.size, page?.usage, page?.failures], ['2MB', 4 * MIB, 9])
    const { throttledNs, ...counts } = throttling(C1, layout) ?? {}
    assert.deepEqual(counts, { periods: 40, throttledPeriods: 5, burstPeriods: 1, burstNs: 2_000_000 })
    assert.equal(Math.floor((throttledNs ?? 0) / 1000), 123456)
  }
  assert.deepEqual([tasksLimit(C1, v1), tasksLimit(C1, v2)], [undefined, 100])
  assert.deepEqual([hugePageUse(C1, v1)[0]?.maxUsage, hugePageUse(C1, v2)[0]?.maxUsage], [8 * MIB, undefined])
  assert.deepEqual(cpuTimes('/pods/pod2', v1), { user: 2_500_000_000, system: 750_000_000 })
  assert.equal(memoryDetails('/pods/pod2', v2).kernel, 55)
})

test('of a cgroup that is not there nothing is told, and nothing thrown', (t) => {
  for (const layout of [v1, v2, { version: 1, controllers: new Map() } as const]) {
    const counters = countersOf(t, '/pods/gone', layout)
    assert.deepEqual(
      [counters.cpuUsage(), counters.memory(), counters.tasks(), counters.pressure('memory')],
      [undefined, undefined, undefined, undefined],
    )
    assert.deepEqual([cpuTimes('/pods/gone', layout), throttling('/pods/gone', layout)], [undefined, undefined])
    assert.deepEqual([deviceTraffic('/pods/gone', layout), hugePageUse('/pods/gone', layout)], [[], []])
    assert.equal(tasksLimit('/pods/gone', layout), undefined)
    assert.ok(Object.values(memoryDetails('/pods/gone', layout)).every((value) => value === undefined))
  }
})

test('files are opened once, follow what is in them, survive that they vanish, and are let go', (t) => {
  const dir = scratch(t)
  cpSync(v2Root, dir, { recursive: true })
  const counters = countersOf(t, C1, { ...v2, unified: dir })
  const before = heldFiles()
  counters.tasks()
  counters.tasks()
  assert.equal(heldFiles(), before + 1)
  const file = join(dir, C1, 'pids.current')
  writeFileSync(file, '8\n')
  assert.equal(counters.tasks(), 8)
  rmSync(join(dir, C1), { recursive: true })
  assert.equal(counters.memory(), undefined)
  counters.close()
  assert.equal(heldFiles(), before)
  assert.equal(counters.tasks(), undefined)
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
  assert.equal(counters.tasks(), 0)
  assert.equal(counters.cpuUsage(), 0)
  await removeCgroup(path)
  assert.equal(counters.tasks(), undefined)
  createCgroup(path)
  assert.equal(counters.tasks(), 0)
  const child = spawn('sleep', ['1000'], { stdio: 'ignore' })
  t.after(() => child.kill('SIGKILL'))
  assert.ok(child.pid !== undefined)
  joinCgroup(path, child.pid)
  assert.equal(counters.tasks(), 1)
})
