/** Settings of the node follow the containers that are isolated, and come back as they were; on files that stand for the kernel's. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { silentLog } from '#proto/log.ts'
import { CpuIsolation, type Isolated } from './cpu-isolation.ts'
import { bannedIn, withBanned } from './irqbalance-file.ts'
import { resumeBalancing, stopBalancing } from './load-balancing.ts'
import { isolationWishes } from './wishes.ts'

const FILES = {
  'irq/default_smp_affinity': 'f',
  'irq/24/smp_affinity': 'f',
  'irq/25/smp_affinity': 'c',
  'irq/26/smp_affinity': '1',
  'cpus/cpu2/power/pm_qos_resume_latency_us': '0',
  'cpus/cpu3/power/pm_qos_resume_latency_us': '0',
  'cpus/cpu2/cpufreq/scaling_governor': 'powersave',
  'cpus/cpu2/cpufreq/scaling_available_governors': 'performance powersave\n',
  'cpus/cpu3/cpufreq/scaling_governor': 'powersave',
  'cpus/cpu3/cpufreq/scaling_available_governors': 'performance powersave\n',
  irqbalance: '# about\nIRQBALANCE_BANNED_CPUS="1"\nOTHER=1\n',
}
type Name = keyof typeof FILES

const host = (t: TestContext) => {
  const dir = mkdtempSync(join(tmpdir(), 'cricket-isolation-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  for (const [name, content] of Object.entries(FILES)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true })
    writeFileSync(join(dir, name), content)
  }
  let restarts = 0
  const open = (bootId = 'boot') =>
    new CpuIsolation({
      roots: { irq: join(dir, 'irq'), cpus: join(dir, 'cpus') },
      irqbalanceConfig: join(dir, 'irqbalance'),
      originalsFile: join(dir, 'originals.json'),
      bootId,
      cgroupVersion: 2,
      log: silentLog,
      restartIrqbalance: async () => void restarts++,
    })
  const read = (name: Name) => readFileSync(join(dir, name), 'utf8')
  const asBefore = () => {
    for (const name of Object.keys(FILES))
      assert.equal(readFileSync(join(dir, name), 'utf8'), Reflect.get(FILES, name), name)
  }
  return { dir, open, read, asBefore, restarts: () => restarts }
}

const isolated = (cpus: number[], features: object): Isolated => ({
  cgroup: '/none',
  wishes: isolationWishes({ features, cpus: new Set(cpus), housekeeping: new Set(cpus.slice(0, 1)) }),
})
const quiet = (cpus: number[]) => isolated(cpus, { irqLoadBalancing: 'disable' })

test('interrupts leave the processors of containers and come back with the last of them', async (t) => {
  const { open, read, asBefore, restarts } = host(t)
  const isolation = open()
  await isolation.begin('a', quiet([2]))
  assert.equal(read('irq/default_smp_affinity'), 'b')
  assert.equal(read('irq/24/smp_affinity'), 'b')
  assert.equal(read('irq/25/smp_affinity'), '8')
  assert.equal(read('irq/26/smp_affinity'), '1')
  assert.equal(read('irqbalance'), '# about\nIRQBALANCE_BANNED_CPUS="5"\nOTHER=1\n')
  await isolation.begin('b', quiet([3]))
  assert.equal(read('irq/default_smp_affinity'), '3')
  assert.equal(read('irq/25/smp_affinity'), '3', 'one that may go nowhere else goes where any may')
  await isolation.end('a', quiet([2]))
  assert.equal(read('irq/default_smp_affinity'), '7')
  assert.equal(read('irq/25/smp_affinity'), '4')
  await isolation.end('b', quiet([3]))
  asBefore()
  assert.equal(restarts(), 4)
})

test('a container that asks for housekeeping leaves its first processor to interrupts', async (t) => {
  const { open, read } = host(t)
  await open().begin('a', isolated([2, 3], { irqLoadBalancing: 'housekeeping' }))
  assert.equal(read('irq/default_smp_affinity'), '7')
})

test('sleep states and governors are set and put back', async (t) => {
  const { open, read, asBefore } = host(t)
  const isolation = open()
  const asked = isolated([2, 3], { cpuCStates: 'max_latency:10', cpuFreqGovernor: 'performance' })
  await isolation.begin('a', asked)
  assert.equal(read('cpus/cpu3/power/pm_qos_resume_latency_us'), '10')
  assert.equal(read('cpus/cpu2/cpufreq/scaling_governor'), 'performance')
  await isolation.end('a', asked)
  asBefore()
})

test('what cannot be had refuses the container and changes nothing', async (t) => {
  const { open, asBefore } = host(t)
  const isolation = open()
  const cases: [Isolated, RegExp][] = [
    [quiet([0, 1, 2, 3]), /no processor would be left/],
    [
      isolated([2], { irqLoadBalancing: 'disable', cpuFreqGovernor: 'turbo' }),
      /"turbo" is not one of "performance", "powersave"/,
    ],
    [isolated([7], { cpuCStates: 'disable' }), /cpu7/],
    [isolated([2], { irqLoadBalancing: 'disable', cpuLoadBalancing: 'disable' }), /./],
  ]
  for (const [asked, pattern] of cases) {
    await assert.rejects(
      isolation.begin('a', asked),
      (error) => isKind(error, 'failed-precondition') && pattern.test(error.message),
    )
    asBefore()
  }
})

test('a later daemon puts back what an earlier one changed, and a later boot only what lies on the disk', async (t) => {
  const first = host(t)
  await first.open().begin('a', quiet([2]))
  await first.open().restore(new Map())
  first.asBefore()

  const second = host(t)
  await second.open().begin('a', quiet([2]))
  const again = second.open()
  await again.restore(new Map([['a', quiet([2])]]))
  assert.equal(second.read('irq/default_smp_affinity'), 'b')
  await again.end('a', quiet([2]))
  second.asBefore()

  const third = host(t)
  await third.open().begin('a', quiet([2]))
  writeFileSync(join(third.dir, 'irq/default_smp_affinity'), 'ff')
  await third.open('next').restore(new Map())
  assert.equal(third.read('irq/default_smp_affinity'), 'ff')
  assert.equal(third.read('irqbalance'), FILES.irqbalance)
})

test('a damaged memory of what was before is put aside', async (t) => {
  const { dir, open, read } = host(t)
  writeFileSync(join(dir, 'originals.json'), '{')
  await open().begin('a', quiet([2]))
  assert.equal(read('irq/default_smp_affinity'), 'b')
  assert.equal(readFileSync(join(dir, 'originals.json.damaged'), 'utf8'), '{')
})

test('annotations that mean nothing are refused', () => {
  const bad = [
    { cpuLoadBalancing: 'off' },
    { irqLoadBalancing: 'no' },
    { cpuQuota: '' },
    { cpuCStates: 'max_latency:x' },
    { cpuCStates: '10' },
    { cpuFreqGovernor: '../x' },
  ]
  for (const features of bad) {
    assert.throws(
      () => isolated([1], features),
      (error) => isKind(error, 'invalid-argument'),
      JSON.stringify(features),
    )
  }
})

test('the line of irqbalance is found, replaced, added and taken away', () => {
  assert.equal(bannedIn('A=1\n'), null)
  assert.equal(bannedIn('#IRQBALANCE_BANNED_CPUS=\nIRQBALANCE_BANNED_CPUS=ff,0 \n'), 'ff,0')
  assert.equal(withBanned('A=1', '3'), 'A=1\nIRQBALANCE_BANNED_CPUS="3"\n')
  assert.equal(withBanned("A=1\nIRQBALANCE_BANNED_CPUS='1'\nB=2\n", '3'), 'A=1\nIRQBALANCE_BANNED_CPUS="3"\nB=2\n')
  assert.equal(withBanned('A=1\nIRQBALANCE_BANNED_CPUS=1\n', null), 'A=1\n')
})

test('every cgroup above an isolated partition sets its processors aside, and takes them back', (t) => {
  const unified = mkdtempSync(join(tmpdir(), 'cricket-partition-'))
  t.after(() => rmSync(unified, { recursive: true, force: true }))
  const layout = { version: 2 as const, unified, controllers: new Map([['cpuset', unified]]) }
  const places = ['/kubepods', '/kubepods/pod', '/kubepods/pod/c']
  for (const place of places) {
    mkdirSync(join(unified, place), { recursive: true })
    writeFileSync(join(unified, place, 'cpuset.cpus.exclusive'), place === '/kubepods' ? '5\n' : '\n')
    writeFileSync(join(unified, place, 'cpuset.cpus.partition'), 'member\n')
  }
  const exclusive = () =>
    places.map((place) => readFileSync(join(unified, place, 'cpuset.cpus.exclusive'), 'utf8').trim())
  stopBalancing('/kubepods/pod/c', new Set([2, 3]), layout)
  assert.deepEqual(exclusive(), ['2-3,5', '2-3', '2-3'])
  assert.equal(readFileSync(join(unified, '/kubepods/pod/c/cpuset.cpus.partition'), 'utf8'), 'isolated')
  resumeBalancing('/kubepods/pod/c', new Set([2, 3]), layout)
  assert.deepEqual(exclusive(), ['5', '', ''])
  assert.equal(readFileSync(join(unified, '/kubepods/pod/c/cpuset.cpus.partition'), 'utf8'), 'member')
})
