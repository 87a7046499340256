/** The CRI on its unix socket: who may connect, how much a message may hold, both services. */
import { Server, ServerCredentials, type ServiceDefinition, type UntypedServiceImplementation } from '@grpc/grpc-js'
import { ImageServiceService, RuntimeServiceService } from '#proto/generated/api.ts'
import type { Parts } from '../parts.ts'
import { type CriSocket, openSocket } from './cri-socket.ts'
import { encodedMethods, maxMessageBytes } from './encoded-answers.ts'
import { encodedLists } from './encoded-lists.ts'
import { openEventStream } from './event-stream.ts'
import { imageService } from './image-service.ts'
import { unaryCalls } from './rpc.ts'
import { runtimeService } from './runtime-service.ts'
import { statsService } from './stats-service.ts'
import { streamingCalls } from './stream-rpc.ts'

/** Of one connection. A client that would have more waits by itself, as HTTP/2 has it; without a limit one could take all memory. */
const maxCallsAtOnce = 1_000

export interface CriServer {
  /** Take the socket away, refuse new calls, let running ones end, at most for this long. */
  close(graceMs: number): Promise<void>
}

/** @throws RuntimeError failed-precondition when somebody answers on the socket already */
export async function serveCri(parts: Parts, listen: string): Promise<CriServer> {
  const server = new Server({
    'grpc.max_receive_message_length': maxMessageBytes,
    'grpc.max_send_message_length': maxMessageBytes,
    'grpc.max_concurrent_streams': maxCallsAtOnce,
    'grpc.enable_channelz': 0,
  })
  const called = () => parts.slowLooks.called()
  const unary = unaryCalls(parts.log, called)
  const streaming = streamingCalls(parts.log, called)
  const events = openEventStream(parts)
  addService(server, runtimeDefinition(), {
    ...runtimeService(parts, unary),
    ...encodedLists(parts, unary, streaming),
    ...statsService(parts, unary, streaming),
    ...events.handlers,
  })
  addService(server, ImageServiceService, imageService(parts, unary, streaming))
  const { injectConnection } = server.createConnectionInjector(ServerCredentials.createInsecure())
  const socket = await openSocket(listen, injectConnection, parts.log)
  return {
    close: (graceMs) => {
      events.close()
      return close(server, socket, graceMs)
    },
  }
}

/** The service as generated, but for the answers that come encoded. */
function runtimeDefinition(): ServiceDefinition {
  const encoded = encodedMethods.map((name) => [name, { ...RuntimeServiceService[name], responseSerialize: asBuffer }])
  return { ...RuntimeServiceService, ...Object.fromEntries(encoded) }
}

/** The same bytes: grpc-js takes nothing but Buffers. */
const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** grpc-js answers UNIMPLEMENTED for what the implementation lacks; only its types want all of it. */
function addService(server: Server, definition: ServiceDefinition, implementation: object): void {
  server.addService(definition, implementation as UntypedServiceImplementation)
}

async function close(server: Server, socket: CriSocket, graceMs: number): Promise<void> {
  await socket.close()
  await new Promise<void>((resolve) => {
    const timer = setTimeout(() => {
      server.forceShutdown()
      resolve()
    }, graceMs)
    server.tryShutdown(() => {
      clearTimeout(timer)
      resolve()
    })
  })
}
