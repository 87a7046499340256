/**
 * PortForward: connections to ports of a pod, made from inside its network namespace, to its loopback addresses and to nothing else.
 * They end with the pod at the latest.
 */
import type { Socket } from 'node:net'
import { errnoOf } from '#linux/errno.ts'
import { RuntimeError } from '#proto/errors.ts'
import type { PortForwardRequest as PortForwardMessage } from '#proto/generated/api.ts'
import type { SandboxId } from '../../ids.ts'
import type { Parts } from '../../parts.ts'
import { podNamespaces, type Sandbox } from '../../sandbox/sandbox.ts'
import type { PortForwardRequest } from '../session.ts'

export type ForwardNeeds = Pick<Parts, 'forwards' | 'linux' | 'log' | 'paths' | 'sandboxes'>

/** A program that has its port open and accepts nobody keeps a client this long. */
const CONNECT_TIMEOUT_MS = 30_000
const MAX_PORT = 65_535
/** Programs that listen on one family only are told apart by trying. */
const LOOPBACKS = ['127.0.0.1', '::1'] as const

/**
 * What the RPC asks for (api.proto, PortForwardRequest). Most clients name their ports with each connection, and none here.
 * @throws RuntimeError invalid-argument, not-found, failed-precondition when the sandbox is not ready
 */
export function acceptPortForward(
  needs: Pick<Parts, 'sandboxes'>,
  { podSandboxId, port }: PortForwardMessage,
): PortForwardRequest {
  for (const [index, each] of port.entries()) checkPort(`port[${index}]`, each)
  return { kind: 'port-forward', sandboxId: readySandbox(needs, podSandboxId).record.id, ports: port }
}

function checkPort(field: string, port: number): void {
  if (Number.isInteger(port) && port >= 1 && port <= MAX_PORT) return
  throw new RuntimeError('invalid-argument', `PortForward: ${field} is ${port}, want 1 to ${MAX_PORT}`)
}

function readySandbox({ sandboxes }: Pick<Parts, 'sandboxes'>, idOrPrefix: string): Sandbox {
  const sandbox = sandboxes.require(idOrPrefix)
  if (sandbox.status.state === 'ready') return sandbox
  throw new RuntimeError(
    'failed-precondition',
    `Cannot forward ports of sandbox "${sandbox.record.id}": it is not ready`,
  )
}

/** The connections into each pod. */
export class Forwards {
  readonly #sockets = new Map<SandboxId, Set<Socket>>()

  add(id: SandboxId, socket: Socket): void {
    const own = this.#sockets.get(id) ?? new Set()
    this.#sockets.set(id, own.add(socket))
    socket.once('close', () => {
      own.delete(socket)
      if (own.size === 0 && this.#sockets.get(id) === own) this.#sockets.delete(id)
    })
  }

  /** The pod is no more; on the network of the node its port may lead on to somebody else. */
  end(id: SandboxId): void {
    for (const socket of this.#sockets.get(id) ?? []) socket.destroy()
  }
}

/** See `StreamBackend.connect`. */
export async function connect(
  needs: ForwardNeeds,
  sandboxId: string,
  port: number,
  signal: AbortSignal,
): Promise<Socket> {
  checkPort('port', port)
  const { record } = readySandbox(needs, sandboxId)
  const netns = podNamespaces(record.config).hostNetwork ? undefined : needs.paths.sandbox(record.id).pin('net')
  const until = AbortSignal.any([signal, AbortSignal.timeout(CONNECT_TIMEOUT_MS)])
  const failures: string[] = []
  for (const address of LOOPBACKS) {
    try {
      const socket = await needs.linux.connectInNamespace({ netns, address, port }, until)
      return registered(needs, record.id, socket)
    } catch (cause) {
      if (until.aborted)
        throw refusal(record.id, port, signal.aborted ? 'the client has gone' : 'nobody accepts', cause)
      const code = errnoOf(cause)
      if (code === undefined) throw cause
      failures.push(`${address}: ${code}`)
    }
  }
  throw refusal(record.id, port, failures.join(', '))
}

/** The pod may have been stopped while the connection was made. */
function registered(needs: ForwardNeeds, id: SandboxId, socket: Socket): Socket {
  needs.forwards.add(id, socket)
  if (needs.sandboxes.get(id)?.status.state !== 'ready') needs.forwards.end(id)
  return socket
}

const refusal = (id: string, port: number, why: string, cause?: unknown): RuntimeError =>
  new RuntimeError('unavailable', `Cannot connect to port ${port} of sandbox "${id}": ${why}`, { cause })
