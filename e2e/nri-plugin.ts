/**
 * A plugin of the Node Resource Interface as its users write them, by the words of the interface alone. Run as a program it is an
 * installed plugin, which talks on descriptor 3 and writes what it hears to the file that its configuration names.
 */
import { appendFileSync } from 'node:fs'
import { Socket } from 'node:net'
import {
  ConfigureRequest,
  ConfigureResponse,
  CreateContainerRequest,
  type CreateContainerResponse,
  CreateContainerResponse as Created,
  type DeepPartial,
  Empty,
  RegisterPluginRequest,
  SynchronizeRequest,
  SynchronizeResponse,
  UpdateContainerRequest,
  type UpdateContainerResponse,
  UpdateContainersRequest,
  UpdateContainersResponse,
  UpdateContainerResponse as Updated,
} from '#proto/generated/nri.ts'
import { Request, Response } from '#proto/generated/ttrpc.ts'

const [PLUGIN, RUNTIME] = [1, 2]
const [REQUEST, RESPONSE] = [1, 2]

export interface Heard {
  readonly method: string
  readonly pod: string
  readonly container: string
}

export interface Behaviour {
  /** Every event when not given. */
  events?: number
  create?(request: CreateContainerRequest): DeepPartial<CreateContainerResponse>
  update?(request: UpdateContainerRequest): DeepPartial<UpdateContainerResponse>
  /** Before any event is answered; what it throws is the answer, and while it does not end there is none. */
  before?(method: string, pod: string): void | Promise<void>
  synchronized?(request: SynchronizeRequest): void | Promise<void>
}

/** All but the one that judges others. */
const EVERYTHING = (1 << 13) - 1

export class NriPlugin {
  readonly heard: Heard[] = []
  readonly #behaviour: Behaviour
  readonly #socket: Socket
  readonly #answers = new Map<number, PromiseWithResolvers<Buffer>>()
  readonly #ready = Promise.withResolvers<void>()
  readonly closed: Promise<void>
  config = ''
  #bytes: Buffer = Buffer.alloc(0)
  #streams: Record<number, Buffer> = {}
  #stream = 1

  constructor(socket: Socket, behaviour: Behaviour = {}) {
    this.#socket = socket
    this.#behaviour = behaviour
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()))
    socket.on('error', () => {})
    socket.on('data', (chunk: Buffer) => this.#take(chunk))
  }

  /** Resolves once it has been told what there is. @throws when it is not let in */
  static async connect(path: string, index: string, name: string, behaviour: Behaviour = {}): Promise<NriPlugin> {
    const plugin = new NriPlugin(new Socket().connect(path), behaviour)
    await plugin.register(index, name)
    return plugin
  }

  async register(index: string, name: string): Promise<void> {
    const request = RegisterPluginRequest.create({ pluginIdx: index, pluginName: name, nriVersion: 'v0.12.0' })
    await this.#call('RegisterPlugin', RegisterPluginRequest.encode(request).finish())
    const gone = this.closed.then(() => Promise.reject(new Error('the runtime closed the connection')))
    await Promise.race([this.#ready.promise, gone])
  }

  async updateContainers(request: DeepPartial<UpdateContainersRequest>): Promise<string[]> {
    const bytes = UpdateContainersRequest.encode(UpdateContainersRequest.create(request)).finish()
    const { failed } = UpdateContainersResponse.decode(await this.#call('UpdateContainers', bytes))
    return failed.map(({ containerId }) => containerId)
  }

  /** What was heard of a pod or container, in order. */
  of(id: string): string[] {
    return this.heard
      .filter(({ pod, container }) => container === id || (pod === id && container === ''))
      .map(({ method }) => method)
  }

  async close(): Promise<void> {
    this.#socket.destroy()
    await this.closed
  }

  #take(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk])
    while (this.#bytes.length >= 8 && this.#bytes.length >= 8 + this.#bytes.readUInt32BE(4)) {
      const [connection, length] = [this.#bytes.readUInt32BE(0), this.#bytes.readUInt32BE(4)]
      const payload = this.#bytes.subarray(8, 8 + length)
      this.#bytes = this.#bytes.subarray(8 + length)
      this.#streams[connection] = this.#messages(
        connection,
        Buffer.concat([this.#streams[connection] ?? Buffer.alloc(0), payload]),
      )
    }
  }

  #messages(connection: number, bytes: Buffer): Buffer {
    let rest = bytes
    while (rest.length >= 10 && rest.length >= 10 + rest.readUInt32BE(0)) {
      const [length, stream] = [rest.readUInt32BE(0), rest.readUInt32BE(4)]
      const payload = rest.subarray(10, 10 + length)
      rest = rest.subarray(10 + length)
      if (connection === PLUGIN) void this.#asked(stream, Request.decode(payload))
      else this.#answered(stream, Response.decode(payload))
    }
    return rest
  }

  #answered(stream: number, { status, payload }: Response): void {
    const answer = this.#answers.get(stream)
    if (status && status.code !== 0) answer?.reject(new Error(status.message))
    else answer?.resolve(payload)
  }

  #call(method: string, payload: Uint8Array): Promise<Buffer> {
    const stream = this.#stream
    this.#stream += 2
    const answer = Promise.withResolvers<Buffer>()
    this.#answers.set(stream, answer)
    const request = Request.create({ service: 'nri.pkg.api.v1alpha1.Runtime', method, payload: Buffer.from(payload) })
    this.#send(RUNTIME, stream, REQUEST, Request.encode(request).finish())
    return answer.promise
  }

  async #asked(stream: number, { method, payload }: Request): Promise<void> {
    const reply = (response: Response) => this.#send(PLUGIN, stream, RESPONSE, Response.encode(response).finish())
    try {
      reply({ status: undefined, payload: Buffer.from(await this.#answer(method, payload)) })
    } catch (error) {
      reply({ status: { code: 2, message: String(error) }, payload: Buffer.alloc(0) })
    }
  }

  async #answer(method: string, payload: Buffer): Promise<Uint8Array> {
    const { create, update, before, synchronized, events = EVERYTHING } = this.#behaviour
    if (method === 'Configure') {
      this.config = ConfigureRequest.decode(payload).config
      return ConfigureResponse.encode({ events }).finish()
    }
    if (method === 'Synchronize') {
      const request = SynchronizeRequest.decode(payload)
      for (const { id } of request.pods) this.heard.push({ method, pod: id, container: '' })
      for (const { id, podSandboxId } of request.containers)
        this.heard.push({ method, pod: podSandboxId, container: id })
      await synchronized?.(request)
      this.#ready.resolve()
      return SynchronizeResponse.encode({ update: [], more: request.more }).finish()
    }
    // Pod and container have the same places in all requests.
    const request = CreateContainerRequest.decode(payload)
    this.heard.push({ method, pod: request.pod?.id ?? '', container: request.container?.id ?? '' })
    await before?.(method, request.pod?.name ?? '')
    if (method === 'CreateContainer' && create) return Created.encode(Created.create(create(request))).finish()
    if (method === 'UpdateContainer' && update)
      return Updated.encode(Updated.create(update(UpdateContainerRequest.decode(payload)))).finish()
    return Empty.encode({}).finish()
  }

  #send(connection: number, stream: number, type: number, payload: Uint8Array): void {
    const head = Buffer.alloc(18)
    head.writeUInt32BE(connection, 0)
    head.writeUInt32BE(payload.length + 10, 4)
    head.writeUInt32BE(payload.length, 8)
    head.writeUInt32BE(stream, 12)
    head.writeUInt8(type, 16)
    this.#socket.write(Buffer.concat([head, payload]))
  }
}

if (import.meta.main) {
  const plugin: NriPlugin = new NriPlugin(new Socket({ fd: Number(process.env.NRI_PLUGIN_SOCKET) }), {
    before: (method) => appendFileSync(plugin.config, `${process.env.NRI_PLUGIN_IDX} ${method}\n`),
  })
  await plugin.register('00', 'whatever')
  await plugin.closed
}
