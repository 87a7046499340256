/** A plugin whose every word is scripted by the test: it speaks the protocol from the other side. */
import type { Duplex } from 'node:stream'
import { Empty, RegisterPluginRequest } from '#proto/generated/nri.ts'
import { Request, Response } from '#proto/generated/ttrpc.ts'
import { RUNTIME_SERVICE } from '../methods.ts'
import { CONNECTION, encodeMessage, MESSAGE, MESSAGE_TYPE, OUTER } from '../ttrpc/frames.ts'
import { FrameSplitter } from '../ttrpc/split-frames.ts'

/** Answers a method; what it throws is the answer as well. Never resolving is a plugin that hangs. */
export type Script = Record<string, (payload: Buffer) => Uint8Array | Promise<Uint8Array>>

export class FakeRefusal extends Error {
  readonly code: number
  constructor(code: number, message: string) {
    super(message)
    this.code = code
  }
}

export class FakePlugin {
  /** The methods that it was asked, in order. */
  readonly asked: string[] = []
  readonly socket: Duplex
  readonly #script: Script
  readonly #answers = new Map<number, PromiseWithResolvers<Buffer>>()
  #stream = 1

  constructor(socket: Duplex, script: Script = {}) {
    this.socket = socket
    this.#script = script
    const asked = new FrameSplitter(MESSAGE, (header, payload) => void this.#answer(header.readUInt32BE(4), payload))
    const answered = new FrameSplitter(MESSAGE, (header, payload) => {
      const { status, payload: answer } = Response.decode(payload)
      const call = this.#answers.get(header.readUInt32BE(4))
      if (status && status.code !== 0) call?.reject(new FakeRefusal(status.code, status.message))
      else call?.resolve(answer)
    })
    const outer = new FrameSplitter(OUTER, (header, payload) =>
      (header.readUInt32BE(0) === CONNECTION.plugin ? asked : answered).push(payload),
    )
    socket.on('data', (chunk: Buffer) => outer.push(chunk))
    socket.on('error', () => {})
  }

  register(index: string, base: string): Promise<Buffer> {
    const request = RegisterPluginRequest.create({ pluginIdx: index, pluginName: base })
    return this.call('RegisterPlugin', RegisterPluginRequest.encode(request).finish())
  }

  call(method: string, payload: Uint8Array, service = RUNTIME_SERVICE): Promise<Buffer> {
    const stream = this.#stream
    this.#stream += 2
    const answer = Promise.withResolvers<Buffer>()
    this.#answers.set(stream, answer)
    const request = Request.create({ service, method, payload: Buffer.from(payload) })
    this.socket.write(encodeMessage(CONNECTION.runtime, stream, MESSAGE_TYPE.request, Request.encode(request).finish()))
    return answer.promise
  }

  async #answer(stream: number, payload: Buffer): Promise<void> {
    const { method, payload: request } = Request.decode(payload)
    this.asked.push(method)
    const response = await this.#response(method, request)
    this.socket.write(
      encodeMessage(CONNECTION.plugin, stream, MESSAGE_TYPE.response, Response.encode(response).finish()),
    )
  }

  async #response(method: string, request: Buffer): Promise<Response> {
    try {
      const script = this.#script[method]
      const answer = script ? await script(request) : Empty.encode({}).finish()
      return { status: undefined, payload: Buffer.from(answer) }
    } catch (error) {
      const { code, message } = error instanceof FakeRefusal ? error : new FakeRefusal(2, String(error))
      return { status: { code, message }, payload: Buffer.alloc(0) }
    }
  }
}
