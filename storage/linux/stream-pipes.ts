/** Pipes between a program and us whose other end is a stream: it waits for whoever reads, and for a program that does not. */
import { closeSync, readlinkSync } from 'node:fs'
import { Socket } from 'node:net'
import { growPipe, makePipe } from './pipes.ts'
import type { InputEnd, OutputEnd } from './run-with-pipes.ts'

/** As far as the kernel allows; a program and we then wake each other more rarely. */
const PIPE_BYTES = 256 * 1024

/** How /proc names an open pipe: "pipe:[1234]". Both ends have the same name. */
const nameOf = (fd: number): string => readlinkSync(`/proc/self/fd/${fd}`)

/** What a program writes. */
export class ReadablePipe implements OutputEnd {
  readonly name: string
  /** Ends, and closes, when nobody holds the write end any more. It has no errors. */
  readonly stream: Socket
  #writeEnd: number | undefined

  constructor() {
    const { read, write } = makePipe()
    growPipe(read, PIPE_BYTES)
    this.name = nameOf(read)
    this.#writeEnd = write
    this.stream = new Socket({ fd: read, readable: true, writable: false })
    this.stream.on('error', () => {})
  }

  get writeEnd(): number {
    if (this.#writeEnd === undefined) throw new Error('the write end is closed')
    return this.#writeEnd
  }

  closeWriteEnd(): void {
    if (this.#writeEnd !== undefined) closeSync(this.#writeEnd)
    this.#writeEnd = undefined
  }

  /** Idempotent. */
  close(): void {
    this.closeWriteEnd()
    this.stream.destroy()
  }
}

/** What a program reads. */
export class WritablePipe implements InputEnd {
  readonly name: string
  /** Its end is the end of the program's input. Closes once the program reads no more; its errors need not be heard. */
  readonly stream: Socket
  #readEnd: number | undefined

  constructor() {
    const { read, write } = makePipe()
    growPipe(read, PIPE_BYTES)
    this.name = nameOf(read)
    this.#readEnd = read
    this.stream = new Socket({ fd: write, readable: false, writable: true })
    this.stream.on('error', () => {})
  }

  get readEnd(): number {
    if (this.#readEnd === undefined) throw new Error('the read end is closed')
    return this.#readEnd
  }

  closeReadEnd(): void {
    if (this.#readEnd !== undefined) closeSync(this.#readEnd)
    this.#readEnd = undefined
  }

  /** Idempotent. */
  close(): void {
    this.closeReadEnd()
    this.stream.destroy()
  }
}
