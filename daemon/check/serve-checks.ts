/** The socket on which `cricket check` asks a running daemon: one check at a time, over HTTP, for root only. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { CheckReport } from './check-node.ts'

export interface CheckServer {
  close(): Promise<void>
}

export type RunCheck = (repair: boolean, signal: AbortSignal) => Promise<CheckReport>

const END_MS = 2_000

export const CHECK_PATH = '/check'
export const REPAIR_PATH = '/repair'

/** Opens the socket, and hands over who connects. */
export type Listen = (accept: (socket: Socket) => void) => Promise<{ close(): Promise<void> }>

export async function serveChecks(listen: Listen, run: RunCheck, log: Log): Promise<CheckServer> {
  const closed = new AbortController()
  let last: Promise<unknown> = Promise.resolve()
  const inTurn: RunCheck = (repair, signal) => {
    const next = last.then(() => {
      signal.throwIfAborted()
      return run(repair, signal)
    })
    last = next.catch(() => {})
    return next
  }
  const server = createServer((request, response) => {
    void answer(request, response, inTurn, closed.signal).catch((error: unknown) => {
      log.warn('A check failed', { why: messageOf(error) })
      if (!response.headersSent) response.writeHead(500)
      response.end(messageOf(error))
    })
  })
  const socket = await listen((connection) => void server.emit('connection', connection))
  return {
    close: async () => {
      closed.abort(new Error('The daemon is stopping'))
      await socket.close()
      // One that does not end by itself ends with the workers of the storage.
      await Promise.race([last, sleep(END_MS, undefined, { ref: false })])
      server.closeAllConnections()
    },
  }
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  run: RunCheck,
  closed: AbortSignal,
): Promise<void> {
  const repair = request.url === REPAIR_PATH
  if (request.method !== 'POST' || !(repair || request.url === CHECK_PATH)) {
    response.writeHead(404).end()
    return
  }
  const left = new AbortController()
  response.once('close', () => left.abort(new Error('Nobody waits for the check any more')))
  const report = await run(repair, AbortSignal.any([left.signal, closed]))
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(report))
}
