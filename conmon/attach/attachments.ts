/**
 * Who is attached to the container: any number of readers, each with a queue of its own that may overflow (then that reader is
 * dropped), and at most one owner of the input, who alone waits when the container does not read.
 */
import { encodeMessage, frameHeaderBytes, frameTypes, maxPayloadBytes } from '#proto/conmon.ts'
import type { Connection } from '../connection.ts'
import { MonitorFailure } from '../failure.ts'
import type { StreamName } from '../log/cri-log.ts'
import type { ContainerInput } from '../stdio/container-input.ts'

export interface Wanted {
  readonly stdin: boolean
  readonly stdout: boolean
  readonly stderr: boolean
}

const farewell = encodeMessage('event', {
  event: 'dropped',
  message: 'Dropped: the output of the container was not read fast enough',
})

export class Attachments {
  readonly #inputOnce: boolean
  readonly #readers = new Map<Connection, Wanted>()
  #input: ContainerInput | undefined
  #owner: Connection | undefined
  /** One frame, built once for all readers; there only while somebody reads. */
  #frame: Buffer | undefined

  /** @param inputOnce the end of the first client's input is the end of the container's */
  constructor(inputOnce: boolean) {
    this.#inputOnce = inputOnce
  }

  /** The container exists. @param input undefined when it has none */
  begin(input: ContainerInput | undefined): void {
    this.#input = input
    if (input !== undefined) input.onTaken = () => this.#owner?.resume()
  }

  /** Attaches a client, from now on. @throws MonitorFailure failed-precondition when the input is not to be had */
  add(connection: Connection, wanted: Wanted): void {
    if (this.#readers.has(connection))
      throw new MonitorFailure('failed-precondition', 'This client is attached already')
    if (wanted.stdin) this.#own(connection)
    this.#readers.set(connection, wanted)
    connection.sayWhenDropped(farewell)
  }

  /** Output of the container, for whoever wants it. */
  write(stream: StreamName, bytes: Buffer): void {
    if (this.#readers.size === 0) return
    const frame = this.#frameOf(stream, bytes)
    for (const [connection, wanted] of this.#readers) if (wanted[stream]) connection.sendShared(frame)
  }

  /** Input from a client; an empty frame is its end. @throws MonitorFailure when the client does not own the input */
  take(connection: Connection, payload: Buffer): void {
    if (connection !== this.#owner) throw new MonitorFailure('failed-precondition', 'The input is not yours')
    if (payload.length === 0) this.#disown(connection)
    else this.#input?.write(payload)
    if (this.#owner === connection && this.#input?.isTaken === false) connection.pause()
  }

  /** A client has gone, attached or not. */
  remove(connection: Connection): void {
    this.#disown(connection)
    this.#readers.delete(connection)
    if (this.#readers.size === 0) this.#frame = undefined
  }

  #own(connection: Connection): void {
    const why = this.#whyNoInput()
    if (why !== undefined) throw new MonitorFailure('failed-precondition', why)
    this.#owner = connection
    // The one before may have left something that the container has not read.
    if (this.#input?.isTaken === false) connection.pause()
  }

  #whyNoInput(): string | undefined {
    if (this.#input === undefined) return 'The container has no input'
    if (!this.#input.isOpen) return 'The input of the container is closed'
    return this.#owner === undefined ? undefined : 'The input of the container is in use by another client'
  }

  #disown(connection: Connection): void {
    if (this.#owner !== connection) return
    this.#owner = undefined
    connection.resume()
    if (this.#inputOnce) this.#input?.end()
  }

  #frameOf(stream: StreamName, bytes: Buffer): Buffer {
    this.#frame ??= Buffer.allocUnsafeSlow(frameHeaderBytes + maxPayloadBytes)
    this.#frame.writeUInt32BE(bytes.length, 0)
    this.#frame[4] = frameTypes[stream]
    bytes.copy(this.#frame, frameHeaderBytes)
    return this.#frame.subarray(0, frameHeaderBytes + bytes.length)
  }
}
