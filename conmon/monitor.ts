/**
 * One container from its creation to its end, at the word of the daemon and of the kernel. Its states: `life.ts`.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { cgroupLayout, containerCgroupPath } from '#linux/cgroup.ts'
import { bootId, isAlive } from '#linux/proc.ts'
import { monotonicMs, realtimeNs } from '#linux/realtime.ts'
import {
  type ExitRecord,
  exitRecordToWire,
  type MonitorOptions,
  type MonitorStatus,
  monitorFiles,
  type Request,
} from '#proto/conmon.ts'
import { Attachments } from './attach/attachments.ts'
import { attempt } from './attempt.ts'
import { cleanUp } from './clean-up.ts'
import { collectGarbageSoon } from './collect-garbage.ts'
import type { Connection } from './connection.ts'
import { type Answer, ControlServer, type RequestHandler } from './control-server.ts'
import { ExitRecordFile, exitFields } from './exit-record.ts'
import { MonitorFailure } from './failure.ts'
import { type Alive, initToWire, type Life, lifeToWire } from './life.ts'
import type { ContainerLog } from './log/container-log.ts'
import { openLog } from './log/open-log.ts'
import { OomWatch } from './oom-watch.ts'
import type { InitExit } from './reaper.ts'
import type { Report } from './report.ts'
import { Runtime, type RuntimeParts } from './runtime.ts'
import { readInit } from './runtime-init.ts'
import { openStdio } from './stdio/open-stdio.ts'
import type { Output } from './stdio/stdio.ts'
import { settlesWithin } from './within.ts'

/** How long output may be held open by somebody outside the container after its end. */
const drainTimeoutMs = 2000
const killTimeoutMs = 5000
/** How long the last words may take to reach the clients. */
const farewellTimeoutMs = 1000

export interface MonitorParts extends RuntimeParts {
  readonly report: Report
}

export class Monitor implements RequestHandler {
  readonly #options: MonitorOptions
  readonly #dir: string
  readonly #parts: MonitorParts
  readonly #runtime: Runtime
  readonly #server: ControlServer
  readonly #clientCame: () => void
  readonly #attachments: Attachments
  #life: Life = { state: 'launched' }
  #log: ContainerLog | undefined
  #leaving = false
  #creating: Promise<unknown> = Promise.resolve()
  #starting: Promise<void> = Promise.resolve()
  #startedAtUnixNs: bigint | undefined

  /** Listens from now on. @param clientCame is told of each client that has proved to be the daemon */
  constructor(options: MonitorOptions, dir: string, parts: MonitorParts, clientCame: () => void) {
    this.#options = options
    this.#dir = dir
    this.#parts = parts
    this.#clientCame = clientCame
    this.#attachments = new Attachments(options.stdinOnce)
    this.#runtime = new Runtime(options, dir, parts)
    this.#server = new ControlServer(parts.reactor, join(dir, monitorFiles.socket), options.cookie, this)
  }

  status(): MonitorStatus {
    const counters = { bytesLogged: this.#log?.bytesLogged ?? 0, bytesLost: this.#log?.bytesLost ?? 0 }
    return lifeToWire(this.#life, counters, this.#startedAtUnixNs)
  }

  handle(request: Request, from: Connection): Promise<Answer> | Answer {
    switch (request.request) {
      case 'create':
        return this.#create()
      case 'start':
        return this.#start()
      case 'status':
        return { reply: 'status', status: this.status() }
      case 'reopen-log':
        return this.#reopenLog(request.notAfter)
      case 'resize':
        this.#alive('resize the terminal of').stdio.resize(request)
        return { reply: 'done' }
      case 'close-stdin':
        this.#alive('close the input of').stdio.closeInput()
        return { reply: 'done' }
      case 'attach':
        this.#alive('attach to')
        this.#attachments.add(from, request)
        return { reply: 'done' }
      case 'shutdown':
        return this.#shutdown()
    }
  }

  clientCame(): void {
    this.#clientCame()
  }

  clientGone(client: Connection, last: boolean): void {
    this.#attachments.remove(client)
    if (last) this.abandoned()
  }

  /** Nobody is left who could ask for a container; if there is none, none will come. */
  abandoned(): void {
    if (this.#life.state === 'launched') void this.#leave()
  }

  takeInput(payload: Buffer, from: Connection): void {
    this.#attachments.take(from, payload)
  }

  async #create(): Promise<Answer> {
    if (this.#life.state !== 'launched') throw this.#refusal('create')
    this.#life = { state: 'creating' }
    try {
      const making = this.#parts.reaper.whileHolding(() => this.#makeContainer())
      this.#creating = making.catch(() => {})
      const alive = await making
      return { reply: 'created', init: initToWire(alive.init) }
    } catch (error) {
      // Once the reply to this request is on its way.
      setImmediate(() => void this.#leave())
      throw error
    }
  }

  async #makeContainer(): Promise<Alive> {
    const { id, runtime } = this.#options
    // Cleaning up behind a failure would kill whoever has the id already.
    if (existsSync(join(runtime.root, id)))
      throw new MonitorFailure('failed-precondition', `Container "${id}" exists already`)
    const record = new ExitRecordFile(this.#dir)
    try {
      const alive = await this.#createWith(record)
      this.#life = { state: 'alive', starting: false, ...alive }
      this.#attachments.begin(alive.stdio.input)
      void this.#parts.reaper.watch(alive.init).then((exit) => this.#end(alive, exit))
      return alive
    } catch (error) {
      await cleanUp(this.#options, this.#runtime, this.#parts.report)
      record.discard()
      throw error
    }
  }

  async #createWith(record: ExitRecordFile): Promise<Alive> {
    const { reactor } = this.#parts
    const log = await openLog(this.#options, this.#parts)
    const stdio = openStdio(this.#options, this.#dir, reactor, this.#output(log))
    if (log !== undefined) log.backlog.onHold = (hold) => stdio.hold(hold)
    this.#log = log
    const creating = this.#runtime.create(stdio)
    // Read once and for all; takes longest of what is still to do, and nobody waits for it now.
    cgroupLayout()
    await creating
    const init = readInit(this.#dir)
    // A container that goes on has the limit that it had.
    if (this.#options.restore === undefined)
      await attempt(this.#parts.report, 'set the limit on open files', () =>
        this.#runtime.openFiles.restoreFor(init.pid),
      )
    else this.#startedAtUnixNs = realtimeNs()
    const cgroup = containerCgroupPath(init.pid)
    await stdio.begin()
    return { init, stdio, record, cgroup, oom: cgroup === undefined ? undefined : new OomWatch(reactor, cgroup) }
  }

  async #start(): Promise<Answer> {
    const life = this.#life
    if (life.state !== 'alive' || this.#startedAtUnixNs !== undefined || life.starting) throw this.#refusal('start')
    this.#life = { ...life, starting: true }
    try {
      this.#starting = this.#runtime.start().then(() => {
        this.#startedAtUnixNs = realtimeNs()
      })
      await this.#starting
      if (this.#life.state === 'alive') this.#life = { ...this.#life, starting: false }
      collectGarbageSoon()
      return { reply: 'done' }
    } catch (error) {
      if (this.#life.state === 'alive') this.#life = { ...this.#life, starting: false }
      throw error
    }
  }

  async #reopenLog(notAfter = Number.POSITIVE_INFINITY): Promise<Answer> {
    this.#alive('reopen the log of')
    await this.#log?.reopen(() => monotonicMs() > notAfter)
    return { reply: 'done' }
  }

  /** The log first: an attached client that has seen a line finds it there. */
  #output(log: ContainerLog | undefined): Output {
    return {
      write: (stream, bytes) => {
        log?.write(stream, bytes)
        this.#attachments.write(stream, bytes)
      },
      flush: () => log?.flush(),
    }
  }

  /** A creation that is under way is ended: whoever does not want the monitor does not want the container either. */
  async #shutdown(): Promise<Answer> {
    if (this.#life.state === 'creating') this.#runtime.abandonCreate()
    await this.#creating
    const life = this.#life
    if (life.state === 'alive' && isAlive(life.init)) throw this.#refusal('leave')
    if (life.state === 'launched') setImmediate(() => void this.#leave())
    return { reply: 'done' }
  }

  /** Order matters: output, log, counters, record, notice (design §3.3). Nothing on the way may keep the record from being written. */
  async #end({ init, stdio, record, oom, cgroup }: Alive, exit: InitExit): Promise<void> {
    const finishedAtUnixNs = realtimeNs()
    this.#life = { state: 'ending', init }
    const { report } = this.#parts
    const fields = exitFields(exit)
    let oomKilled = false
    await attempt(report, 'read the OOM counters', () => {
      oomKilled = oom?.explains(fields) ?? false
    })
    if (this.#options.sharedPidNamespace && cgroup !== undefined) {
      await attempt(report, 'kill the rest of the container', () => killRest(cgroup))
    }
    await attempt(report, 'read the rest of the output', async () => {
      this.#log?.backlog.hurry()
      if (!(await stdio.drain(drainTimeoutMs))) report('somebody outside the container holds its output open')
    })
    await attempt(report, 'complete the log', () => this.#log?.end())
    // A container may end before the runtime's start does.
    await settlesWithin(this.#starting, farewellTimeoutMs)
    const ended: ExitRecord = {
      id: this.#options.id,
      pid: init.pid,
      startTime: init.startTime,
      bootId: bootId(),
      ...fields,
      oomKilled,
      ...(this.#startedAtUnixNs !== undefined && { startedAtUnixNs: earlier(this.#startedAtUnixNs, finishedAtUnixNs) }),
      finishedAtUnixNs,
      bytesLogged: this.#log?.bytesLogged ?? 0,
      bytesLost: this.#log?.bytesLost ?? 0,
      ...(this.#log !== undefined && this.#log.journalLost > 0 && { journalLost: this.#log.journalLost }),
    }
    await attempt(report, 'write the exit record', () => record.write(ended))
    // Whoever asked for the start hears of it before he hears of the end.
    await settlesWithin(this.#server.whenAnswered(), farewellTimeoutMs)
    this.#life = { state: 'ended', record: ended }
    this.#server.broadcast({ event: 'exited', record: exitRecordToWire(ended) })
    stdio.close()
    oom?.close()
    await this.#server.whenAnswered()
    await this.#leave()
  }

  /** Lets the last words out and ends the loop, and with it the process. */
  async #leave(): Promise<void> {
    if (this.#leaving) return
    this.#leaving = true
    await settlesWithin(this.#server.finish(), farewellTimeoutMs)
    this.#server.close()
    this.#parts.reactor.stop()
  }

  #alive(what: string): Alive {
    if (this.#life.state !== 'alive') throw this.#refusal(what)
    return this.#life
  }

  #refusal(what: string): MonitorFailure {
    return new MonitorFailure(
      'failed-precondition',
      `Cannot ${what} container "${this.#options.id}": it is ${this.#life.state}`,
    )
  }
}

/** Loaded when it is needed: a container has a PID namespace of its own as a rule. */
async function killRest(cgroup: string): Promise<void> {
  const { killCgroup } = await import('#linux/kill-cgroup.ts')
  await killCgroup(cgroup, { timeoutMs: killTimeoutMs })
}

const earlier = (a: bigint, b: bigint): bigint => (a < b ? a : b)
