/** Reads one output descriptor of a container into the monitor's one read buffer whenever there is something. */
import { closeSync } from 'node:fs'
import { ioError, readSome, tryAgain } from '#linux/descriptor.ts'
import { readable } from '#linux/epoll.ts'
import type { StreamName } from '../log/cri-log.ts'
import type { Reactor } from '../reactor.ts'
import type { Output } from './stdio.ts'

export const readBytes = 64 * 1024
/** Then other descriptors get their turn. */
const READS_PER_TURN = 8

export class OutputReader {
  /** Resolves at the end of the output, or when reading was given up. */
  readonly ended: Promise<void>
  readonly #reactor: Reactor
  readonly #fd: number
  readonly #stream: StreamName
  readonly #buffer: Buffer
  readonly #output: Output
  #open = true
  #held = false
  #end: () => void = () => {}

  /** Takes over `fd`, which is non-blocking. `buffer` may be shared: it is used only within a turn. */
  constructor(reactor: Reactor, fd: number, stream: StreamName, buffer: Buffer, output: Output) {
    this.#reactor = reactor
    this.#fd = fd
    this.#stream = stream
    this.#buffer = buffer
    this.#output = output
    this.ended = new Promise((resolve) => {
      this.#end = resolve
    })
    reactor.add(fd, readable, () => this.#read())
  }

  /** Stops reading, and goes on. The end of the output is not noticed meanwhile. */
  hold(hold: boolean): void {
    if (!this.#open || hold === this.#held) return
    this.#held = hold
    if (hold) this.#reactor.remove(this.#fd)
    else this.#reactor.add(this.#fd, readable, () => this.#read())
  }

  /** Gives up reading. Idempotent. */
  close(): void {
    if (!this.#open) return
    this.#open = false
    this.#reactor.remove(this.#fd)
    closeSync(this.#fd)
    this.#end()
  }

  #read(): void {
    this.#reactor.expectMore()
    for (let turn = 0; turn < READS_PER_TURN && !this.#held; turn++) {
      const count = readSome(this.#fd, this.#buffer)
      if (count > 0) this.#output.write(this.#stream, this.#buffer.subarray(0, count))
      // Less than asked for: nothing is left, and a read that says so is saved.
      if (count > 0 && count < this.#buffer.length) break
      if (count === tryAgain) break
      if (count <= 0) {
        // The end, or EIO of a terminal that nobody in the container holds any more.
        if (count < 0 && count !== ioError) throw new RangeError(`reading the container's output failed with ${count}`)
        this.close()
        break
      }
    }
    this.#output.flush()
  }
}
