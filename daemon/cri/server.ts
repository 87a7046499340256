/** The CRI on its unix socket: who may connect, how much a message may hold, both services. */
import { chmod, lstat, unlink } from 'node:fs/promises'
import { connect } from 'node:net'
import { Server, ServerCredentials, type ServiceDefinition, type UntypedServiceImplementation } from '@grpc/grpc-js'
import { isErrno } from '#linux/errno.ts'
import { RuntimeError } from '#proto/errors.ts'
import { ImageServiceService } from '#proto/generated/api.ts'
import type { Parts } from '../parts.ts'
import { encodedLists, runtimeDefinition } from './encoded-lists.ts'
import { imageService } from './image-service.ts'
import { unaryCalls } from './rpc.ts'
import { runtimeService } from './runtime-service.ts'
import { streamingCalls } from './stream-rpc.ts'

/** The kubelet's own limit for what it receives; nothing it sends comes near. */
const maxMessageBytes = 16 * 1024 * 1024

export interface CriServer {
  /** Refuse new calls, let running ones end, at most for this long; then take the socket away. */
  close(graceMs: number): Promise<void>
}

/** @throws RuntimeError failed-precondition when somebody answers on the socket already */
export async function serveCri(parts: Parts, listen: string): Promise<CriServer> {
  const server = new Server({
    'grpc.max_receive_message_length': maxMessageBytes,
    'grpc.max_send_message_length': maxMessageBytes,
    'grpc.enable_channelz': 0,
  })
  const unary = unaryCalls(parts.log)
  const streaming = streamingCalls(parts.log)
  addService(server, runtimeDefinition, { ...runtimeService(parts, unary, streaming), ...encodedLists(parts, unary) })
  addService(server, ImageServiceService, imageService(parts, unary, streaming))
  await removeStaleSocket(listen)
  await bind(server, listen)
  return { close: (graceMs) => close(server, listen, graceMs) }
}

/** grpc-js answers UNIMPLEMENTED for what the implementation lacks; only its types want all of it. */
function addService(server: Server, definition: ServiceDefinition, implementation: object): void {
  server.addService(definition, implementation as UntypedServiceImplementation)
}

async function bind(server: Server, listen: string): Promise<void> {
  // Nobody but root may connect in the moment between bind and chmod.
  const umask = process.umask(0o177)
  try {
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(`unix://${listen}`, ServerCredentials.createInsecure(), (error) =>
        error ? reject(error) : resolve(),
      )
    })
  } catch (cause) {
    throw new RuntimeError('failed-precondition', `Cannot listen on "${listen}"`, { cause })
  } finally {
    process.umask(umask)
  }
  await chmod(listen, 0o660)
}

/** A socket file that nobody listens on is what a killed daemon leaves behind; one that answers is never touched. */
async function removeStaleSocket(listen: string): Promise<void> {
  try {
    const stats = await lstat(listen)
    if (!stats.isSocket())
      throw new RuntimeError('failed-precondition', `Cannot listen on "${listen}": it is no socket`)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return
    throw error
  }
  if (await answers(listen)) {
    throw new RuntimeError('failed-precondition', `Cannot listen on "${listen}": another process does`)
  }
  await unlink(listen)
}

const answers = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(path)
    const end = (answer: boolean) => {
      socket.destroy()
      resolve(answer)
    }
    socket.once('connect', () => end(true))
    socket.once('error', () => end(false))
  })

async function close(server: Server, listen: string, graceMs: number): Promise<void> {
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
  await unlink(listen).catch(() => {})
}
