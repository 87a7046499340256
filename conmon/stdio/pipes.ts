/** The standard streams of a container without a terminal: real pipes, so that /dev/stdout can be opened in it. */
import { closeSync, constants, fchmodSync, openSync } from 'node:fs'
import { readSome } from '#linux/descriptor.ts'
import { makePipe, setNonblock } from '#linux/pipes.ts'
import { MonitorFailure } from '../failure.ts'
import type { Reactor } from '../reactor.ts'
import { settlesWithin } from '../within.ts'
import { ContainerInput } from './container-input.ts'
import { OutputReader, readBytes } from './output-reader.ts'
import type { ContainerStdio, Output } from './stdio.ts'

// A user of the container who is not its first (su) can still open /dev/stdout; nobody but root can read it there.
const OUTPUT_MODE = 0o622
const INPUT_MODE = 0o644

export class PipeStdio implements ContainerStdio {
  readonly runtimeArguments = []
  readonly runtimeStdio: readonly [number, number, number]
  readonly #reactor: Reactor
  readonly #output: Output
  readonly #stdout = makePipe()
  readonly #stderr = makePipe()
  input: ContainerInput | undefined
  #readers: OutputReader[] = []
  #closers: (() => void)[]

  constructor(reactor: Reactor, output: Output, withInput: boolean) {
    this.#reactor = reactor
    this.#output = output
    for (const { read, write } of [this.#stdout, this.#stderr]) {
      setNonblock(read, true)
      fchmodSync(write, OUTPUT_MODE)
    }
    const stdin = withInput ? this.#openInput() : openSync('/dev/null', constants.O_RDONLY)
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
    const buffer = Buffer.allocUnsafeSlow(readBytes)
    this.#readers = [
      new OutputReader(this.#reactor, this.#stdout.read, 'stdout', buffer, this.#output),
      new OutputReader(this.#reactor, this.#stderr.read, 'stderr', buffer, this.#output),
    ]
    this.#closers = this.#readers.map((reader) => () => reader.close())
  }

  complaint(maxBytes: number): Buffer {
    const buffer = Buffer.alloc(maxBytes)
    return buffer.subarray(0, Math.max(0, readSome(this.#stderr.read, buffer)))
  }

  async drain(timeoutMs: number): Promise<void> {
    await settlesWithin(Promise.all(this.#readers.map((reader) => reader.ended)), timeoutMs)
  }

  closeInput(): void {
    this.input?.end()
  }

  resize(): void {
    throw new MonitorFailure('failed-precondition', 'The container has no terminal')
  }

  close(): void {
    this.input?.close()
    for (const close of this.#closers.splice(0)) close()
  }
}
