/** The standard streams of a container without a terminal: real pipes, so that /dev/stdout can be opened in it. */
import { closeSync, constants, fchmodSync, openSync } from 'node:fs'
import { growPipe, makePipe, setNonblock } from '#linux/pipes.ts'
import { Drain } from '../drain.ts'
import { MonitorFailure } from '../failure.ts'
import type { Reactor } from '../reactor.ts'
import { maxComplaintBytes } from '../runtime-complaint.ts'
import { settlesWithin } from '../within.ts'
import { ContainerInput } from './container-input.ts'
import { OutputReader, readBytes } from './output-reader.ts'
import type { ContainerStdio, Output } from './stdio.ts'

// A user of the container who is not its first (su) can still open /dev/stdout; nobody but root can read it there.
const OUTPUT_MODE = 0o622
const INPUT_MODE = 0o644
/** What a container can write while the monitor naps under load. Memory only while it is in use. */
const PIPE_BYTES = 256 * 1024

const NOTHING = Buffer.alloc(0)

export class PipeStdio implements ContainerStdio {
  readonly runtimeArguments = []
  readonly runtimeStdio: readonly [number, number, number]
  readonly #reactor: Reactor
  readonly #output: Output
  readonly #stdout = makePipe()
  readonly #stderr = makePipe()
  /** What the runtime's create and its hooks say; the container says nothing before it is started. */
  readonly #early: { stdout: Drain; stderr: Drain } | undefined
  input: ContainerInput | undefined
  #readers: OutputReader[] = []
  #closers: (() => void)[]

  /** @param wanted `runsAtOnce`: the container speaks before the runtime is done, so all that comes is its output */
  constructor(reactor: Reactor, output: Output, wanted: { withInput: boolean; runsAtOnce: boolean }) {
    this.#reactor = reactor
    this.#output = output
    for (const { read, write } of [this.#stdout, this.#stderr]) {
      setNonblock(read, true)
      fchmodSync(write, OUTPUT_MODE)
      growPipe(write, PIPE_BYTES)
    }
    if (!wanted.runsAtOnce) {
      this.#early = {
        stdout: new Drain(reactor, this.#stdout.read, maxComplaintBytes),
        stderr: new Drain(reactor, this.#stderr.read, maxComplaintBytes),
      }
    }
    const stdin = wanted.withInput ? this.#openInput() : openSync('/dev/null', constants.O_RDONLY)
    this.runtimeStdio = [stdin, this.#stdout.write, this.#stderr.write]
    this.#closers = [this.#stdout.read, this.#stderr.read].map((fd) => () => closeSync(fd))
  }

  #openInput(): number {
    const { read, write } = makePipe()
    setNonblock(write, true)
    fchmodSync(read, INPUT_MODE)
    this.input = new ContainerInput(this.#reactor, write)
    return read
  }

  handOver(): void {
    for (const fd of this.runtimeStdio) closeSync(fd)
  }

  async begin(): Promise<void> {
    for (const name of ['stdout', 'stderr'] as const) {
      const said = this.#early?.[name].read() ?? NOTHING
      this.#early?.[name].end()
      if (said.length > 0) this.#output.write(name, said)
    }
    const buffer = Buffer.allocUnsafeSlow(readBytes)
    this.#readers = [
      new OutputReader(this.#reactor, this.#stdout.read, 'stdout', buffer, this.#output),
      new OutputReader(this.#reactor, this.#stderr.read, 'stderr', buffer, this.#output),
    ]
    this.#closers = this.#readers.map((reader) => () => reader.close())
  }

  complaint(): Buffer {
    return this.#early?.stderr.read() ?? NOTHING
  }

  drain(timeoutMs: number): Promise<boolean> {
    return settlesWithin(Promise.all(this.#readers.map((reader) => reader.ended)), timeoutMs)
  }

  hold(hold: boolean): void {
    for (const reader of this.#readers) reader.hold(hold)
  }

  closeInput(): void {
    this.input?.end()
  }

  resize(): void {
    throw new MonitorFailure('failed-precondition', 'The container has no terminal')
  }

  close(): void {
    this.input?.close()
    this.#early?.stdout.end()
    this.#early?.stderr.end()
    for (const close of this.#closers.splice(0)) close()
  }
}
