/** A backend without containers: what "runs" is named by the first word of the command. Ports are those of this host. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import type { Duplex, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { RuntimeError } from '#proto/errors.ts'
import type { AttachRequest, ExecEnd, ExecRequest, RemoteStreams, StreamBackend } from '../session.ts'

type Program = (streams: RemoteStreams, args: readonly string[], signal: AbortSignal) => Promise<number>

const untilAborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => {
    const end = () => reject(signal.reason)
    if (signal.aborted) end()
    else signal.addEventListener('abort', end, { once: true })
  })

/** Waits for room. `once` takes its listeners away when aborted, so that a flood leaves none. */
const write = async (to: Writable | undefined, chunk: Buffer | string, signal: AbortSignal): Promise<void> => {
  if (to !== undefined && !to.write(chunk)) await once(to, 'drain', { signal })
}

const CHUNK = Buffer.alloc(32_768, 'cricket ')

const programs: Record<string, Program> = {
  exit: async (_, [code = '0']) => Number(code),
  /** Its words, to stdout and stderr; without any, stdin. */
  echo: async ({ stdin, stdout, stderr }, args, signal) => {
    if (args[0] !== undefined) {
      await write(stdout, args[0], signal)
      await write(stderr, args[1] ?? '', signal)
    } else if (stdin && stdout) await Promise.race([pipeline(stdin, stdout, { end: false }), untilAborted(signal)])
    return 0
  },
  /** Writes so many bytes, or without end. */
  flood: async ({ stdout }, [bytes = 'Infinity'], signal) => {
    for (let left = Number(bytes); left > 0; left -= CHUNK.length) {
      await write(stdout, left < CHUNK.length ? CHUNK.subarray(0, left) : CHUNK, signal)
      signal.throwIfAborted()
    }
    return 0
  },
  /** Reads stdin to its end and writes its sha256. */
  digest: async ({ stdin, stdout }, _, signal) => {
    const hash = createHash('sha256')
    for await (const chunk of stdin ?? []) hash.update(chunk)
    await write(stdout, hash.digest('hex'), signal)
    return 0
  },
  /** Reads nothing, and ends only when it is told to. */
  stall: async (_streams, _args, signal) => untilAborted(signal),
  /** Writes each size it is told, until it has seen so many; never reads stdin. */
  sizes: async ({ sizes, stdout }, [count = 'Infinity'], signal) => {
    let seen = 0
    for await (const { width, height } of sizes) {
      await write(stdout, `${width}x${height} `, signal)
      if (++seen === Number(count)) break
    }
    return 0
  },
  fail: async (_, [message = 'failed']) => {
    throw new RuntimeError('failed-precondition', message)
  },
  crash: async () => {
    throw new Error('a secret of the daemon')
  },
}

export class FakeBackend implements StreamBackend {
  /** Sessions that run now, and that ever did. */
  running = 0
  begun = 0
  /** The reasons for which sessions were aborted. */
  readonly aborted: unknown[] = []
  /** Sockets to ports that are open. */
  readonly sockets = new Set<Duplex>()
  readonly execs: ExecRequest[] = []

  async exec(request: ExecRequest, streams: RemoteStreams, signal: AbortSignal): Promise<ExecEnd> {
    this.execs.push(request)
    const [name = '', ...args] = request.command
    const program = programs[name]
    if (program === undefined) throw new RuntimeError('not-found', `There is no program "${name}"`)
    return { how: 'exited', code: await this.#run(program(streams, args, signal), signal) }
  }

  async attach(_request: AttachRequest, streams: RemoteStreams, signal: AbortSignal): Promise<void> {
    await this.#run(programs.echo?.(streams, [], signal), signal)
  }

  async connect(_sandboxId: string, port: number, signal: AbortSignal): Promise<Duplex> {
    const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true })
    this.sockets.add(socket)
    socket.once('close', () => this.sockets.delete(socket))
    try {
      await once(socket, 'connect', { signal })
    } catch (cause) {
      socket.destroy()
      throw new RuntimeError('unavailable', `Cannot connect to port ${port} of the pod: connection refused`, { cause })
    }
    return socket
  }

  async #run<T>(work: Promise<T> | undefined, signal: AbortSignal): Promise<T> {
    if (work === undefined) throw new Error('no such program')
    this.begun++
    this.running++
    try {
      return await work
    } finally {
      this.running--
      if (signal.aborted) this.aborted.push(signal.reason)
    }
  }
}
