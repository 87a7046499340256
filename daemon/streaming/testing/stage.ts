/** What a test of the streaming server needs: the server before a fake backend, both gone after the test. */
import assert from 'node:assert/strict'
import { createServer, type Socket } from 'node:net'
import type { TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Log } from '#proto/log.ts'
import { defaultConfig } from '../../config/load.ts'
import type { Config } from '../../config/schema.ts'
import { openStreamingServer, type StreamingServer } from '../open-server.ts'
import type { AttachRequest, ExecRequest } from '../session.ts'
import { FakeBackend } from './fake-backend.ts'
import { dialSpdy, type SpdyClient } from './spdy-client.ts'

type Streaming = Config['streaming']

/** Keeps lines as JSON. */
const keepingLog = (lines: string[]): Log => {
  const keep = (message: string, fields?: Record<string, unknown>) => {
    lines.push(JSON.stringify({ message, ...fields }))
  }
  const log: Log = { debug: keep, info: keep, warn: keep, error: keep, child: () => log }
  return log
}

export interface Stage {
  server: StreamingServer
  backend: FakeBackend
  /** The log. */
  lines: string[]
  /** The faults logged so far, which no longer fail the test. */
  takeFaults(): string[]
  config: Streaming
  /** The URL of an exec of these words, with stdin, stdout and stderr unless said otherwise. */
  exec(command: string[], more?: Partial<ExecRequest>): string
  attach(more?: Partial<AttachRequest>): string
  forward(ports?: number[]): string
  /** A client that is closed after the test. */
  spdy(url: string, ...versions: string[]): Promise<SpdyClient>
}

export interface StageOptions {
  config?: Partial<Streaming>
  tls?: Partial<Streaming['tls']>
  now?: () => number
}

export const openStage = async (t: TestContext, { config = {}, tls = {}, now }: StageOptions = {}): Promise<Stage> => {
  const backend = new FakeBackend()
  const lines: string[] = []
  const standard = defaultConfig().streaming
  const streaming = { ...standard, ...config, tls: { ...standard.tls, ...tls } }
  const options = { config: streaming, backend, log: keepingLog(lines) }
  const server = await openStreamingServer(now ? { ...options, now } : options)
  const clients: SpdyClient[] = []
  t.after(async () => {
    for (const client of clients) client.close()
    await server.close(0)
    assert.deepEqual(takeFaults(lines), [])
  })
  const streams = { containerId: 'c0'.repeat(32), tty: false, stdin: true, stdout: true, stderr: true }
  return {
    server,
    backend,
    lines,
    takeFaults: () => takeFaults(lines),
    config: streaming,
    exec: (command, more) => server.url({ kind: 'exec', ...streams, command, ...more }),
    attach: (more) => server.url({ kind: 'attach', ...streams, ...more }),
    forward: (ports) => server.url({ kind: 'port-forward', sandboxId: '5a'.repeat(32), ...(ports && { ports }) }),
    async spdy(url, ...versions) {
      const isForward = url.includes('/portforward/')
      const client = await dialSpdy(url, {
        versions: versions.length > 0 ? versions : [isForward ? 'portforward.k8s.io' : 'v4.channel.k8s.io'],
      })
      clients.push(client)
      return client
    },
  }
}

const takeFaults = (lines: string[]): string[] => {
  const faults = lines.filter((line) => line.includes('session failed'))
  lines.splice(0, lines.length, ...lines.filter((line) => !faults.includes(line)))
  return faults
}

/** Waits until it is so; fails after `ms`, which is generous: the machine may be busy. */
export const until = async (what: string, isSo: () => boolean, ms = 30_000): Promise<void> => {
  const deadline = Date.now() + ms
  while (!isSo()) {
    if (Date.now() > deadline) assert.fail(`not within ${ms} ms: ${what}`)
    await sleep(10)
  }
}

setFlagsFromString('--expose-gc')
const collect: unknown = runInNewContext('gc')

/** What this process holds after a collection: heap and buffers, in bytes. */
export const liveBytes = (): number => {
  if (typeof collect === 'function') collect()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

/** A TCP server of this host, as the programs of a pod are. Its port. */
export const listen = async (t: TestContext, serve: (socket: Socket) => void): Promise<number> => {
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.once('close', () => sockets.delete(socket))
    serve(socket)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}
