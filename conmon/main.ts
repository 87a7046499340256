/**
 * One monitor: `conmon <state directory> [--announce]`. Becomes a process that needs nothing of whoever launched it, listens, says that it is
 * ready, and stays until its container has ended.
 */
import { closeSync, writeSync } from 'node:fs'
import { closeInherited } from '#linux/descriptor.ts'
import { peerClosed } from '#linux/epoll.ts'
import { setCloexec } from '#linux/pipes.ts'
import { becomeSubreaper } from '#linux/reaper.ts'
import { sys } from '#linux/sys.ts'
import { ordersDescriptor, readyDescriptor } from '#proto/conmon.ts'
import { awaitOrders } from './await-orders.ts'
import { Monitor } from './monitor.ts'
import { OomScore } from './oom-score.ts'
import { parseArguments, readOptions } from './options.ts'
import { Reactor } from './reactor.ts'
import { Reaper } from './reaper.ts'
import { openReport } from './report.ts'

/** So that the kernel kills everything else first. */
const defaultOomScoreAdj = -1000

async function main(): Promise<void> {
  const given = parseArguments(process.argv.slice(2))
  process.umask(0o022)
  process.chdir('/')
  closeInherited(given === 'spare' ? [readyDescriptor, ordersDescriptor] : given.announce ? [readyDescriptor] : [])
  becomeSubreaper()
  const { dir, announce } = given === 'spare' ? { dir: awaitOrders(), announce: true } : given
  const report = openReport()
  // It ends when its container has ended: whoever stops a service or closes a session does not mean the container's output.
  for (const signal of ['SIGHUP', 'SIGINT', 'SIGTERM'] as const) process.on(signal, () => {})
  // A bug in the service of one client must not cost the container its monitor.
  process.on('uncaughtException', (error) => report(`unexpected: ${error.stack}`))
  process.on('unhandledRejection', (error) => report(`unexpected: ${error instanceof Error ? error.stack : error}`))

  const options = readOptions(dir)
  const reactor = new Reactor((error) => report(`unexpected: ${error instanceof Error ? error.stack : error}`))
  const oomScore = new OomScore(options.oomScoreAdj ?? defaultOomScoreAdj)
  const reaper = new Reaper(reactor)
  const ready = announce ? new ReadyPipe(reactor) : undefined
  const monitor = new Monitor(options, dir, { reactor, reaper, oomScore, report }, () => ready?.close())
  ready?.tell(() => monitor.abandoned())
  await reactor.run()
  // Not by way of the engine, which would wait for its threads: one of them may be syncing a log whose disk hangs.
  sys('exit_group', 0)
}

/** The line to whoever launched us, until the first client has connected. */
class ReadyPipe {
  readonly #reactor: Reactor
  #open = true

  constructor(reactor: Reactor) {
    this.#reactor = reactor
  }

  /** @param abandoned the launcher has died without connecting */
  tell(abandoned: () => void): void {
    setCloexec(readyDescriptor, true)
    this.#reactor.add(readyDescriptor, peerClosed, () => {
      this.close()
      abandoned()
    })
    writeSync(readyDescriptor, '!')
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    this.#reactor.remove(readyDescriptor)
    closeSync(readyDescriptor)
  }
}

main().catch((error: unknown) => {
  openReport()(error instanceof Error ? error.message : String(error))
  process.exit(1)
})
