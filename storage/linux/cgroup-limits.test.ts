import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { cgroupLayout, createCgroup, readCgroupFile, removeCgroup, writeCgroupFile } from './cgroup.ts'
import { hugepageFile, readLimits, restoreLimits, workingSetBytes } from './cgroup-limits.ts'
import { thawCgroup } from './freezer.ts'

const host = cgroupLayout()
const MIB = 1024 * 1024
let made = 0

const hostCgroup = (t: TestContext): string => {
  const path = `/cricket-limits-${process.pid}-${++made}`
  createCgroup(path)
  t.after(() => removeCgroup(path))
  return path
}

test('limits are put back whichever way they were changed', (t) => {
  if (host.version === 2 || !host.controllers.has('memory')) return t.skip('host lacks the v1 memory controller')
  const path = hostCgroup(t)
  const set = (memory: number, swap: number) => {
    writeCgroupFile('memory', path, 'memory.limit_in_bytes', String(memory))
    if (readCgroupFile('memory', path, 'memory.memsw.limit_in_bytes') !== undefined) {
      writeCgroupFile('memory', path, 'memory.memsw.limit_in_bytes', String(swap))
    }
  }
  const unlimited = readLimits(path)
  set(64 * MIB, 64 * MIB)
  writeCgroupFile('cpu', path, 'cpu.shares', '77')
  const small = readLimits(path)
  restoreLimits(path, unlimited)
  assert.deepEqual(readLimits(path), unlimited)
  restoreLimits(path, small)
  assert.deepEqual(readLimits(path), small)
  restoreLimits('/no-such-cgroup-here', small)
})

test('what cannot be put back is told, after the rest', (t) => {
  if (!host.controllers.has('cpu')) return t.skip('host lacks the cpu controller')
  const path = hostCgroup(t)
  const before = readLimits(path)
  const [first, ...rest] = before.filter(({ controller }) => controller === 'cpu')
  assert.ok(first)
  writeCgroupFile('cpu', path, first.file, first.file === 'cpu.weight' ? '7' : '77')
  const wrong = { controller: 'cpu', file: rest[0]?.file ?? '', value: 'nonsense' }
  assert.throws(() => restoreLimits(path, [wrong, first]), { code: 'EINVAL' })
  assert.deepEqual(readLimits(path), before)
})

test('memory in use is counted, and nothing of a cgroup that is not there', (t) => {
  if (!host.controllers.has('memory')) return t.skip('host lacks the memory controller')
  assert.equal(workingSetBytes(hostCgroup(t)), 0)
  assert.equal(workingSetBytes('/no-such-cgroup-here'), undefined)
  assert.match(hugepageFile('2MB'), /^hugetlb\.2MB\.(max|limit_in_bytes)$/)
})

test('a frozen cgroup is thawed, a thawed one left alone', (t) => {
  if (host.version !== 2 && !host.controllers.has('freezer')) return t.skip('host lacks the freezer')
  const path = hostCgroup(t)
  const [file, frozen] = host.version === 2 ? ['cgroup.freeze', '1'] : ['freezer.state', 'FROZEN']
  assert.equal(thawCgroup(path), false)
  writeCgroupFile('freezer', path, file, frozen)
  assert.equal(thawCgroup(path), true)
  assert.equal(thawCgroup(path), false)
  assert.equal(thawCgroup('/no-such-cgroup-here'), false)
})
