/** A client of exec and attach, by either transport: what kubectl and crictl do, with the means to misbehave. */

import { once } from 'node:events'
import { finished } from 'node:stream/promises'
import { WebSocket } from 'ws'
import { SpdyClient, type SpdyStream } from './spdy-client.ts'

export type Transport = 'spdy' | 'websocket'
export const TRANSPORTS: readonly Transport[] = ['spdy', 'websocket']

export interface Asked {
  tty?: boolean
  stdin?: boolean
  stdout?: boolean
  stderr?: boolean
}

/** What is told at the end: the exit code, or the failure's message. */
export type End = { code: number } | { failure: string } | { lost: true }

export interface RemoteCommand {
  /** Resolves when the server takes more. */
  write(bytes: Buffer | string): Promise<void>
  /** The half-close of stdin. */
  closeInput(): void
  resize(width: number, height: number): void
  /** No more is read, from now on. */
  stall(): void
  /** As if the client were killed. */
  kill(): void
  readonly ended: Promise<End>
  /** What came until now, unless somebody takes it. */
  text(stream?: 'stdout' | 'stderr'): string
}

export interface CommandOptions {
  /** Takes the output instead of keeping it. */
  take?: (stream: 'stdout' | 'stderr', bytes: Buffer) => void
}

class Kept {
  readonly chunks = { stdout: [] as Buffer[], stderr: [] as Buffer[] }
  readonly take: (stream: 'stdout' | 'stderr', bytes: Buffer) => void

  constructor({ take }: CommandOptions) {
    this.take = take ?? ((stream, bytes) => this.chunks[stream].push(bytes))
  }

  text(stream: 'stdout' | 'stderr' = 'stdout'): string {
    return Buffer.concat(this.chunks[stream]).toString()
  }
}

/** As clients send, who copy their input. */
const PIECE = 32 * 1024

interface Cause {
  reason?: string
  message?: string
}

interface Status {
  status: string
  reason?: string
  message?: string
  details?: { causes?: Cause[] }
}

function endOf(text: string): End {
  if (text === '') return { lost: true }
  const { status, reason, message = '', details }: Status = JSON.parse(text)
  if (status === 'Success') return { code: 0 }
  const code = details?.causes?.find((cause) => cause.reason === 'ExitCode')?.message
  return reason === 'NonZeroExitCode' && code !== undefined ? { code: Number(code) } : { failure: message }
}

export const openCommand = (
  transport: Transport,
  url: string,
  asked: Asked,
  options: CommandOptions = {},
): Promise<RemoteCommand> =>
  transport === 'spdy' ? bySpdy(url, asked, new Kept(options)) : byWebSocket(url, new Kept(options))

async function bySpdy(url: string, asked: Asked, kept: Kept): Promise<RemoteCommand> {
  const client = await SpdyClient.connect(url, 'v4.channel.k8s.io')
  const stream = (streamtype: string) => client.open({ streamtype })
  const error = stream('error')
  const stdin = asked.stdin ? stream('stdin') : undefined
  const outputs: SpdyStream[] = []
  for (const name of ['stdout', 'stderr'] as const) {
    if (!asked[name]) continue
    outputs.push(stream(name).on('data', (bytes: Buffer) => kept.take(name, bytes)))
  }
  const resize = asked.tty ? stream('resize') : undefined
  let status = ''
  error.on('data', (bytes: Buffer) => {
    status += bytes.toString()
  })
  const over = [error, ...outputs].map((each) => finished(each, { writable: false }).catch(() => {}))
  const ended = Promise.all(over).then(() => {
    client.socket.destroy()
    return endOf(status)
  })
  return {
    write: async (bytes) => {
      const all = Buffer.from(bytes)
      for (let at = 0; at < all.length; at += PIECE)
        if (stdin && !stdin.write(all.subarray(at, at + PIECE))) await Promise.race([once(stdin, 'drain'), ended])
    },
    closeInput: () => void stdin?.end(),
    resize: (Width, Height) => void resize?.write(JSON.stringify({ Width, Height })),
    stall: () => void client.socket.pause(),
    kill: () => client.socket.destroy(),
    ended,
    text: (name) => kept.text(name),
  }
}

async function byWebSocket(url: string, kept: Kept): Promise<RemoteCommand> {
  const socket = new WebSocket(url.replace(/^http/, 'ws'), ['v5.channel.k8s.io'])
  let status = ''
  const ended = new Promise<End>((resolve) => socket.once('close', () => resolve(endOf(status))))
  socket.on('message', (data: Buffer) => {
    const body = data.subarray(1)
    if (data[0] === 1 || data[0] === 2) kept.take(data[0] === 1 ? 'stdout' : 'stderr', body)
    else if (data[0] === 3) status += body.toString()
  })
  await once(socket, 'open')
  socket.on('error', () => {})
  const send = (channel: number, bytes: Buffer | string) =>
    new Promise<void>((resolve) => {
      if (socket.readyState !== WebSocket.OPEN) resolve()
      else {
        const sent = Buffer.concat([Buffer.from([channel]), Buffer.from(bytes)])
        const full = socket.bufferedAmount > 8 * PIECE
        socket.send(sent, () => full && resolve())
        if (!full) resolve()
      }
    })
  return {
    write: async (bytes) => {
      const all = Buffer.from(bytes)
      for (let at = 0; at < all.length; at += PIECE) await send(0, all.subarray(at, at + PIECE))
    },
    closeInput: () => void send(255, Buffer.from([0])),
    resize: (Width, Height) => void send(4, JSON.stringify({ Width, Height })),
    stall: () => socket.pause(),
    kill: () => socket.terminate(),
    ended,
    text: (name) => kept.text(name),
  }
}
