/**
 * A CRI client as the kubelet has one: both services over one unix socket, a promise per call, a deadline on each.
 * It is derived from the generated service definitions and works with any CRI runtime.
 */

import { Client, credentials, type Metadata, type ServiceError, status } from '@grpc/grpc-js'
import { ImageServiceService, RuntimeServiceService } from '#proto/generated/api.ts'

/** What a unary method of a generated service definition looks like. */
interface UnaryMethod {
  path: string
  requestStream: false
  responseStream: false
  requestSerialize(value: never): Buffer
  requestDeserialize(bytes: Buffer): unknown
  responseDeserialize(bytes: Buffer): unknown
}

type Request<M extends UnaryMethod> = Parameters<M['requestSerialize']>[0]
type Response<M extends UnaryMethod> = ReturnType<M['responseDeserialize']>
type UnaryNames<S> = { [K in keyof S]: S[K] extends UnaryMethod ? K : never }[keyof S]

/** Every unary RPC of a service: fields left out of the request have their zero value. */
export type Calls<S> = {
  [K in UnaryNames<S>]: S[K] extends UnaryMethod
    ? (request: Partial<Request<S[K]>>, options?: CallOptions) => Promise<Response<S[K]>>
    : never
}

export interface CallOptions {
  /** Milliseconds; the kubelet's own default is two minutes. */
  timeoutMs?: number
  /** Cancels the call, as a client does that goes away. */
  signal?: AbortSignal
}

export interface CriClient {
  runtime: Calls<typeof RuntimeServiceService>
  images: Calls<typeof ImageServiceService>
  /** Any method by path with raw bytes: for methods that do not exist. */
  raw(path: string, request: Buffer): Promise<Buffer>
  /** All messages of a server stream, undecoded. */
  stream(path: string, request: Buffer): Promise<Buffer[]>
  /** The code of a server stream's end. */
  streamStatus(path: string): Promise<status>
  close(): void
}

const DEFAULT_TIMEOUT_MS = 120_000

/** Connects on first use to the CRI socket at this path. */
export function connectCri(socketPath: string): CriClient {
  const client = new Client(`unix://${socketPath}`, credentials.createInsecure(), {
    'grpc.max_receive_message_length': 16 * 1024 * 1024,
    'grpc.initial_reconnect_backoff_ms': 50,
    'grpc.max_reconnect_backoff_ms': 500,
    'grpc.enable_channelz': 0,
    'grpc.default_authority': 'localhost',
  })
  return {
    runtime: callsOf(client, RuntimeServiceService),
    images: callsOf(client, ImageServiceService),
    raw: (path, request) =>
      unary(
        client,
        path,
        () => request,
        (bytes) => bytes,
        {},
      ),
    stream: (path, request) => stream(client, path, request),
    streamStatus: (path) => streamStatus(client, path),
    close: () => client.close(),
  }
}

function callsOf<S extends Record<string, object>>(client: Client, service: S): Calls<S> {
  const calls: Record<string, unknown> = {}
  for (const [name, method] of Object.entries(service)) {
    if (!isUnary(method)) continue
    const zero = method.requestDeserialize(Buffer.alloc(0))
    calls[name] = (request: object, options: CallOptions = {}) =>
      unary(
        client,
        method.path,
        () => method.requestSerialize(Object.assign({}, zero, request) as never),
        method.responseDeserialize,
        options,
      )
  }
  // The loop above is what the mapped type says; the compiler cannot follow it.
  return calls as Calls<S>
}

const isUnary = (method: object): method is UnaryMethod => 'responseStream' in method && !method.responseStream

function unary<R>(
  client: Client,
  path: string,
  serialize: () => Buffer,
  deserialize: (bytes: Buffer) => R,
  { timeoutMs = DEFAULT_TIMEOUT_MS, signal }: CallOptions,
): Promise<R> {
  const caller = new Error('called here')
  return new Promise((resolve, reject) => {
    const cancel = () => call.cancel()
    const call = client.makeUnaryRequest(
      path,
      serialize,
      deserialize,
      null,
      { deadline: Date.now() + timeoutMs },
      (error: ServiceError | null, response?: R) => {
        signal?.removeEventListener('abort', cancel)
        if (error) reject(new CriError(path, error, caller))
        else if (response === undefined) reject(new Error(`'${path}' answered nothing`))
        else resolve(response)
      },
    )
    signal?.addEventListener('abort', cancel, { once: true })
    if (signal?.aborted) cancel()
  })
}

function stream(client: Client, path: string, request: Buffer): Promise<Buffer[]> {
  const raw = (bytes: Buffer) => bytes
  const call = client.makeServerStreamRequest(path, raw, raw, request, { deadline: Date.now() + DEFAULT_TIMEOUT_MS })
  return call.toArray()
}

function streamStatus(client: Client, path: string): Promise<status> {
  return new Promise((resolve) => {
    const call = client.makeServerStreamRequest(
      path,
      (bytes: Buffer) => bytes,
      (bytes: Buffer) => bytes,
      Buffer.alloc(0),
      {
        deadline: Date.now() + 10_000,
      },
    )
    call.on('data', () => {})
    call.on('error', () => {})
    call.on('status', ({ code }) => resolve(code))
  })
}

/** A call that failed: the gRPC code; the cause's stack leads to the caller. */
export class CriError extends Error {
  readonly code: status
  readonly details: string
  readonly metadata: Metadata

  constructor(path: string, error: ServiceError, caller: Error) {
    super(`${path.slice(path.lastIndexOf('/') + 1)}: ${status[error.code]}: ${error.details}`, { cause: caller })
    this.name = 'CriError'
    this.code = error.code
    this.details = error.details
    this.metadata = error.metadata
  }
}

/** For `assert.rejects`: fails with this code and, when given, a message that matches. */
export function failsWith(code: status, message?: RegExp): (error: unknown) => boolean {
  return (error) => {
    if (!(error instanceof CriError)) throw error
    if (error.code !== code) throw new Error(`want code ${status[code]}, got: ${error.message}`, { cause: error })
    if (message && !message.test(error.details))
      throw new Error(`want a message like ${message}, got: ${error.details}`)
    return true
  }
}
