/** Cuts a stream of bytes into frames: a header of fixed size that tells how long the payload behind it is. */

export interface FrameShape {
  /** What such a frame is called in errors. */
  readonly what: string
  readonly headerBytes: number
  /** Where in the header the length stands, as 32 bits, the highest first. */
  readonly lengthAt: number
  readonly maxPayloadBytes: number
}

/** The other side does not speak the protocol; nothing that it sends can be trusted any more. */
export class ProtocolError extends Error {}

export class FrameSplitter {
  readonly #shape: FrameShape
  readonly #onFrame: (header: Buffer, payload: Buffer) => void
  readonly #header: Buffer
  #headerFilled = 0
  #payload: Buffer | undefined
  #payloadFilled = 0

  constructor(shape: FrameShape, onFrame: (header: Buffer, payload: Buffer) => void) {
    this.#shape = shape
    this.#onFrame = onFrame
    this.#header = Buffer.alloc(shape.headerBytes)
  }

  /** @throws ProtocolError for a length beyond the limit; what `onFrame` throws */
  push(chunk: Buffer): void {
    let rest = chunk
    while (rest.length > 0) rest = this.#payload === undefined ? this.#takeHeader(rest) : this.#takePayload(rest)
  }

  #takeHeader(chunk: Buffer): Buffer {
    const taken = chunk.copy(this.#header, this.#headerFilled)
    this.#headerFilled += taken
    if (this.#headerFilled === this.#header.length) this.#begin()
    return chunk.subarray(taken)
  }

  #begin(): void {
    const { what, lengthAt, maxPayloadBytes } = this.#shape
    const length = this.#header.readUInt32BE(lengthAt)
    if (length > maxPayloadBytes) throw new ProtocolError(`A ${what} of ${length} bytes exceeds ${maxPayloadBytes}`)
    this.#payload = Buffer.allocUnsafeSlow(length)
    this.#payloadFilled = 0
    if (length === 0) this.#end(this.#payload)
  }

  #takePayload(chunk: Buffer): Buffer {
    const payload = this.#payload ?? Buffer.alloc(0)
    const taken = chunk.copy(payload, this.#payloadFilled)
    this.#payloadFilled += taken
    if (this.#payloadFilled === payload.length) this.#end(payload)
    return chunk.subarray(taken)
  }

  #end(payload: Buffer): void {
    this.#payload = undefined
    this.#headerFilled = 0
    this.#onFrame(Buffer.from(this.#header), payload)
  }
}
