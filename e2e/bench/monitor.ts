/**
 * `npm run bench -- monitor`: our monitor beside CRI-O's conmon in C and containerd's shim, turn by turn, with the same bundles and runc. Prints a table;
 * there is no pass or fail. `--rounds N` containers for the times (30), `--pods N` idle ones (20).
 */

import { execFileSync } from 'node:child_process'
import { mkdtemp, open, readdir, readFile, rm, rmdir, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { memoryOf } from '../process-memory.ts'
import { type Figure, percentile, renderTable } from './figures.ts'
import {
  adoptOurs,
  type Bundle,
  dropSpare,
  isThere,
  type Launch,
  launchCrios,
  launchOurs,
  type Monitored,
  makeBundle,
  prepareSpare,
  removeContainer,
  runcAlone,
} from './monitors.ts'
import { Shims } from './shims.ts'

/** What can be asked to create, and later to start. */
const monitors: Record<string, Launch> = { cricket: launchOurs, 'conmon (C)': launchCrios }
const names = Object.keys(monitors)
/** Differs in how it begins only. */
const spare = 'cricket, spare'
const begins: Record<string, Launch> = { ...monitors, [spare]: adoptOurs }
const beginners = Object.keys(begins)
const shim = 'containerd shim'
const all = [...names, shim]
const LINE = 'x'.repeat(99)
const MB = 1_000_000
const TICK_MS = 10

const note = (text: string) => console.error(`bench  ${text}`)

/** User and system time of all threads of one process, in milliseconds. */
async function cpuMs(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, 'latin1')).replace(/^.*\) /s, '').split(' ')
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS
}

/** The same to the nanosecond: for what takes less than a tick. */
export async function preciseCpuMs(pid: number): Promise<number> {
  const threads = await readdir(`/proc/${pid}/task`)
  const texts = await Promise.all(threads.map((tid) => readFile(`/proc/${pid}/task/${tid}/schedstat`, 'latin1')))
  return texts.reduce((sum, text) => sum + Number(text.split(' ')[0]) / 1e6, 0)
}

/** How often each thread of a process went to sleep: each is a wake-up. */
async function sleepsOf(pid: number): Promise<Map<string, number>> {
  const sleeps = new Map<string, number>()
  for (const tid of await readdir(`/proc/${pid}/task`)) {
    const text = await readFile(`/proc/${pid}/task/${tid}/status`, 'latin1').catch(() => '')
    sleeps.set(tid, Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(text)?.[1] ?? 0))
  }
  return sleeps
}

/** Threads come and go: those that are there now count with what they have added. */
const addedSleeps = (before: Map<string, number>, after: Map<string, number>): number =>
  [...after].reduce((sum, [tid, count]) => sum + count - (before.get(tid) ?? 0), 0)

async function tail(path: string): Promise<string> {
  const file = await open(path)
  try {
    const { size } = await file.stat()
    const { buffer, bytesRead } = await file.read(Buffer.alloc(100), 0, 100, Math.max(0, size - 100))
    return buffer.toString('latin1', 0, bytesRead)
  } finally {
    await file.close()
  }
}

/** The container writes this last. */
const saysDone = '; echo "all is written"; sleep 100000'
const isDone = async (path: string) => (await isThere(path)) && (await tail(path)).endsWith('all is written\n')

async function untilDone(path: string): Promise<void> {
  const deadline = performance.now() + 120_000
  while (!(await isDone(path))) {
    if (performance.now() > deadline) throw new Error(`log "${path}" does not come to its end`)
    await sleep(5)
  }
}

class Bench {
  readonly #root: string
  readonly #rounds: number
  readonly #pods: number
  readonly #made: Bundle[] = []
  readonly #figures = new Map<string, Figure>()
  readonly #shims: Shims
  readonly #ofShims = new Set<string>()

  constructor(root: string, rounds: number, pods: number) {
    this.#root = root
    this.#rounds = rounds
    this.#pods = pods
    this.#shims = new Shims(root)
  }

  async run(): Promise<Figure[]> {
    note(`load average ${(await readFile('/proc/loadavg', 'latin1')).trim()}`)
    note('warming up')
    await this.#shims.begin()
    for (const name of all) await this.#end(await this.#launch(name, 'true'))
    await this.#starts()
    await this.#idle()
    await this.#idleSpare()
    await this.#lines(400)
    await this.#memoryAfter(1000)
    note(`load average ${(await readFile('/proc/loadavg', 'latin1')).trim()}`)
    return [...this.#figures.values()]
  }

  async cleanUp(): Promise<void> {
    dropSpare()
    for (const bundle of this.#made) await this.#remove(bundle)
    await this.#shims.end()
  }

  async #remove(bundle: Bundle): Promise<void> {
    await removeContainer(bundle)
    if (this.#ofShims.has(bundle.id)) await this.#shims.remove(bundle)
  }

  #set(figure: string, unit: Figure['unit'], name: string, value: number): void {
    const row = this.#figures.get(figure) ?? { name: figure, unit, values: {} }
    this.#figures.set(figure, row)
    row.values[name] = value
  }

  async #bundle(command: string): Promise<Bundle> {
    const bundle = await makeBundle(this.#root, `b${process.pid}-${this.#made.length}`, command)
    this.#made.push(bundle)
    return bundle
  }

  async #launch(name: string, command: string): Promise<Monitored> {
    const bundle = await this.#bundle(command)
    if (name === shim) this.#ofShims.add(bundle.id)
    const launch = name === shim ? this.#shims.launch : monitors[name]
    if (!launch) throw new Error(`no monitor "${name}"`)
    return launch(bundle)
  }

  /** Kills the container and waits until its monitor has gone. */
  async #end({ id, pid }: Monitored): Promise<void> {
    const bundle = this.#made.find((each) => each.id === id)
    if (bundle) await this.#remove(bundle)
    for (let waited = 0; (await isRunning(pid)) && waited < 5000; waited += 10) await sleep(10)
  }

  async #starts(): Promise<void> {
    note(`${this.#rounds} containers each, one at a time`)
    const alone: number[] = []
    const create: Record<string, number[]> = {}
    const start: Record<string, number[]> = {}
    const cpu: Record<string, number[]> = {}
    for (let round = 0; round < this.#rounds; round++) {
      const bare = await this.#bundle('sleep 1000')
      const begin = performance.now()
      await runcAlone(bare)
      alone.push(performance.now() - begin)
      await removeContainer(bare)
      for (const name of round % 2 === 0 ? beginners : beginners.toReversed()) {
        const bundle = await this.#bundle('sleep 1000')
        const launch = begins[name]
        if (!launch) continue
        if (name === spare) await prepareSpare()
        const from = performance.now()
        const monitored = await launch(bundle)
        push(create, name, performance.now() - from)
        const startFrom = performance.now()
        await monitored.start()
        push(start, name, performance.now() - startFrom)
        await sleep(50)
        push(cpu, name, await preciseCpuMs(monitored.pid))
        await this.#end(monitored)
      }
      const shimmed = await this.#launch(shim, 'sleep 1000')
      await sleep(50)
      push(cpu, shim, await preciseCpuMs(shimmed.pid))
      await this.#end(shimmed)
    }
    const runc = percentile(alone, 0.5)
    note(`runc create by itself: p50 ${runc.toFixed(1)} ms`)
    for (const name of beginners) {
      this.#set('create, spawn of the monitor included, p50', 'ms', name, percentile(create[name] ?? [], 0.5))
      this.#set(
        '  of which the monitor adds to runc create, p50',
        'ms',
        name,
        percentile(create[name] ?? [], 0.5) - runc,
      )
      this.#set('start, p50', 'ms', name, percentile(start[name] ?? [], 0.5))
    }
    for (const name of [...all, spare])
      this.#set('CPU of the monitor per container started, p50', 'ms', name, percentile(cpu[name] ?? [], 0.5))
  }

  async #idle(): Promise<void> {
    note(`${this.#pods} idle containers each`)
    for (const name of all) {
      const up: Monitored[] = []
      for (let n = 0; n < this.#pods; n++) {
        const monitored = await this.#launch(name, 'sleep 100000')
        await monitored.start()
        up.push(monitored)
      }
      await sleep(5000)
      execFileSync('sync')
      const memory = await Promise.all(up.map(({ pid }) => memoryOf(pid)))
      const mean = (key: 'privateDirty' | 'pss') =>
        memory.reduce((sum, each) => sum + each[key], 0) / memory.length / 1e6
      this.#set('idle, private dirty', 'MB', name, mean('privateDirty'))
      this.#set('idle, PSS', 'MB', name, mean('pss'))
      const state = () =>
        Promise.all(up.map(async ({ pid }) => ({ sleeps: await sleepsOf(pid), cpu: await preciseCpuMs(pid) })))
      const before = await state()
      await sleep(10_000)
      const after = await state()
      const none = { sleeps: new Map<string, number>(), cpu: 0 }
      const rises = after.map(({ sleeps, cpu }, n) => {
        const { sleeps: sleepsBefore, cpu: cpuBefore } = before[n] ?? none
        return { sleeps: addedSleeps(sleepsBefore, sleeps), cpu: Math.max(0, cpu - cpuBefore) }
      })
      const sum = (key: 'sleeps' | 'cpu') => rises.reduce((total, each) => total + each[key], 0) / up.length
      this.#set('idle, wake-ups of all threads in 10 s', 'count', name, Math.round(sum('sleeps') * 10) / 10)
      this.#set('idle, CPU in 10 s', 'ms', name, sum('cpu'))
      for (const monitored of up) await this.#end(monitored)
    }
  }

  /** One that waits, once per node. */
  async #idleSpare(): Promise<void> {
    const pid = await prepareSpare()
    await sleep(5000)
    execFileSync('sync')
    const { privateDirty, pss } = await memoryOf(pid)
    this.#set('idle, private dirty', 'MB', spare, privateDirty / 1e6)
    this.#set('idle, PSS', 'MB', spare, pss / 1e6)
    const before = await sleepsOf(pid)
    await sleep(10_000)
    this.#set('idle, wake-ups of all threads in 10 s', 'count', spare, addedSleeps(before, await sleepsOf(pid)))
  }

  /** Best of three: what else the machine does comes on top of every round. */
  async #lines(megabytes: number): Promise<void> {
    note(`${megabytes} MB of 100-byte lines, three times each`)
    const samples: Record<string, { cpu: number[]; wall: number[]; size: number[] }> = {}
    for (let round = 0; round < 3; round++) {
      for (const name of round % 2 === 0 ? all : all.toReversed()) {
        const monitored = await this.#launch(name, `yes ${LINE} | head -c ${megabytes * MB}${saysDone}`)
        const cpuBefore = await cpuMs(monitored.pid)
        const begin = performance.now()
        await monitored.start()
        await untilDone(monitored.logPath)
        const wall = performance.now() - begin
        const row = samples[name] ?? { cpu: [], wall: [], size: [] }
        samples[name] = row
        row.cpu.push((await cpuMs(monitored.pid)) - cpuBefore)
        row.wall.push(wall)
        row.size.push((await stat(monitored.logPath)).size / 1e6)
        await this.#end(monitored)
        await rm(monitored.logPath)
      }
    }
    for (const [name, { cpu, wall, size }] of Object.entries(samples)) {
      this.#set(`${megabytes} MB of lines, CPU of the monitor`, 'ms', name, Math.min(...cpu))
      this.#set(`${megabytes} MB of lines, wall`, 'ms', name, Math.min(...wall))
      this.#set(`${megabytes} MB of lines, size of the log`, 'MB', name, Math.min(...size))
    }
  }

  async #memoryAfter(megabytes: number): Promise<void> {
    note(`memory after ${megabytes} MB of output`)
    for (const name of all) {
      const monitored = await this.#launch(name, `yes ${LINE} | head -c ${megabytes * MB}${saysDone}`)
      await monitored.start()
      await untilDone(monitored.logPath)
      await sleep(10_000)
      execFileSync('sync')
      const { privateDirty } = await memoryOf(monitored.pid)
      this.#set(`private dirty after ${megabytes} MB and 10 s of quiet`, 'MB', name, privateDirty / 1e6)
      await this.#end(monitored)
      await rm(monitored.logPath)
    }
  }
}

/** Not where PID 1 takes its time with the dead either. */
async function isRunning(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => ') Z')
  return !/\) Z[^)]*$/.test(stat)
}

function push(samples: Record<string, number[]>, name: string, value: number): void {
  const list = samples[name] ?? []
  samples[name] = list
  list.push(value)
}

/** The whole comparison, printed. */
export async function benchMonitors({ rounds, pods }: { rounds: number; pods: number }): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), 'cricket-bench-'))
  const bench = new Bench(root, rounds, pods)
  try {
    const figures = await bench.run()
    console.log(`\n${renderTable(figures, [...all, spare])}\n`)
  } finally {
    await bench.cleanUp()
    for (const hierarchy of await readdir('/sys/fs/cgroup')) {
      await rmdir(join('/sys/fs/cgroup', hierarchy, 'cricket-bench-monitor')).catch(() => {})
    }
    await rm(root, { recursive: true, force: true })
  }
}
