/**
 * The standard streams of a container with a terminal. The runtime makes the terminal and sends its master over a socket
 * (design D5); the monitor reads, writes and resizes it.
 */
import { closeSync, constants, openSync } from 'node:fs'
import { type ConsoleSocket, listenConsoleSocket } from '#linux/console-socket.ts'
import { duplicate } from '#linux/descriptor.ts'
import { makePipe, setNonblock } from '#linux/pipes.ts'
import { setOnlcr, setWindowSize } from '#linux/pty.ts'
import { rawSys } from '#linux/sys.ts'
import { monitorFiles } from '#proto/conmon.ts'
import { Drain } from '../drain.ts'
import { MonitorFailure } from '../failure.ts'
import type { Reactor } from '../reactor.ts'
import { maxComplaintBytes } from '../runtime-complaint.ts'
import { settlesWithin } from '../within.ts'
import { ContainerInput } from './container-input.ts'
import { OutputReader, readBytes } from './output-reader.ts'
import type { ContainerStdio, Output } from './stdio.ts'

/** The runtime sends the master before it says that it is done. */
const masterTimeoutMs = 5000

const TIOCGPTPEER = 0x5441
const O_CLOEXEC = 0o2000000

export class TerminalStdio implements ContainerStdio {
  readonly runtimeStdio: readonly [number, number, number]
  readonly runtimeArguments: readonly string[]
  readonly #reactor: Reactor
  readonly #output: Output
  readonly #complaints = makePipe()
  readonly #said: Drain
  readonly #directory: number
  readonly #console: ConsoleSocket
  readonly #received: Promise<number>
  #master: number | undefined
  /** Our own hold on the terminal: without it a container that closes its last descriptor for a moment would hang it up. */
  #peer: number | undefined
  #reader: OutputReader | undefined
  input: ContainerInput | undefined
  #open = true

  constructor(reactor: Reactor, output: Output, dir: string) {
    this.#reactor = reactor
    this.#output = output
    setNonblock(this.#complaints.read, true)
    this.#said = new Drain(reactor, this.#complaints.read, maxComplaintBytes)
    const nothing = openSync('/dev/null', constants.O_RDONLY)
    this.runtimeStdio = [nothing, this.#complaints.write, this.#complaints.write]
    // A socket address holds 107 bytes, whatever the length of our directory's name.
    this.#directory = openSync(dir, constants.O_RDONLY | constants.O_DIRECTORY)
    const name = `fd/${this.#directory}/${monitorFiles.consoleSocket}`
    this.#console = listenConsoleSocket(`/proc/self/${name}`)
    this.#received = this.#console.receive()
    // Whoever needs the terminal awaits it; when nobody does any more, its failure is no news.
    this.#received.catch(() => {})
    this.runtimeArguments = ['--console-socket', `/proc/${process.pid}/${name}`]
  }

  handOver(): void {
    closeSync(this.runtimeStdio[0])
    closeSync(this.#complaints.write)
  }

  async begin(): Promise<void> {
    const late = setTimeout(() => this.#console.close(), masterTimeoutMs)
    try {
      this.#master = await this.#received
    } finally {
      clearTimeout(late)
      this.#console.close()
    }
    setNonblock(this.#master, true)
    setOnlcr(this.#master, true)
    const peer = rawSys('ioctl', this.#master, TIOCGPTPEER, constants.O_RDWR | constants.O_NOCTTY | O_CLOEXEC)
    if (peer >= 0) this.#peer = peer
    // Watched for other events than the one that is read from.
    this.input = new ContainerInput(this.#reactor, duplicate(this.#master))
    const buffer = Buffer.allocUnsafeSlow(readBytes)
    this.#reader = new OutputReader(this.#reactor, this.#master, 'stdout', buffer, this.#output)
  }

  complaint(): Buffer {
    return this.#said.read()
  }

  async drain(timeoutMs: number): Promise<boolean> {
    this.#closePeer()
    return this.#reader === undefined || settlesWithin(this.#reader.ended, timeoutMs)
  }

  hold(hold: boolean): void {
    this.#reader?.hold(hold)
  }

  closeInput(): void {
    // A terminal has no end of input but the one its user types.
  }

  resize(size: { width: number; height: number }): void {
    if (this.#master === undefined) throw new MonitorFailure('failed-precondition', 'The terminal is not there yet')
    setWindowSize(this.#master, size)
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    this.#closePeer()
    this.#master = undefined
    this.input?.close()
    this.#reader?.close()
    this.#console.close()
    this.#said.end()
    closeSync(this.#complaints.read)
    closeSync(this.#directory)
  }

  #closePeer(): void {
    if (this.#peer !== undefined) closeSync(this.#peer)
    this.#peer = undefined
  }
}
