/** Exec and attach over SPDY: waits for the streams that the request has, then hands them over. */
import type { Duplex } from 'node:stream'
import { RuntimeError } from '#proto/errors.ts'
import { type CommandParts, serveCommand } from '../serve-command.ts'
import type { AttachRequest, ExecRequest } from '../session.ts'
import type { SessionEnd, StatusStyle } from '../status-text.ts'
import { SpdyConnection } from './connection.ts'
import type { SpdyStream } from './stream.ts'

/** The versions of the remote command protocol, best first. Over SPDY the fifth is the fourth. */
export const COMMAND_VERSIONS = [
  'v5.channel.k8s.io',
  'v4.channel.k8s.io',
  'v3.channel.k8s.io',
  'v2.channel.k8s.io',
  'channel.k8s.io',
] as const
export type CommandVersion = (typeof COMMAND_VERSIONS)[number]

type StreamType = 'error' | 'stdin' | 'stdout' | 'stderr' | 'resize'

const hasSizes = (version: CommandVersion): boolean => version !== 'channel.k8s.io' && version !== 'v2.channel.k8s.io'

const statusStyle = (version: CommandVersion): StatusStyle =>
  version === 'v4.channel.k8s.io' || version === 'v5.channel.k8s.io' ? 'json' : 'sentence'

/** The streams a client opens for a request. A terminal has no stderr of its own. */
export const expectedStreams = (request: ExecRequest | AttachRequest, version: CommandVersion): Set<StreamType> => {
  const types = new Set<StreamType>(['error'])
  if (request.stdin) types.add('stdin')
  if (request.stdout) types.add('stdout')
  if (request.stderr && !request.tty) types.add('stderr')
  if (request.tty && hasSizes(version)) types.add('resize')
  return types
}

/** Takes streams until all are there. What was not asked for is refused. */
class Gathering {
  readonly #streams = new Map<string, SpdyStream>()
  readonly #missing: Set<string>
  readonly complete: Promise<void>
  #done = () => {}

  constructor(expected: ReadonlySet<StreamType>) {
    this.#missing = new Set(expected)
    this.complete = new Promise((resolve) => {
      this.#done = resolve
    })
  }

  take(stream: SpdyStream): void {
    const type = stream.headers.get('streamtype') ?? ''
    if (!this.#missing.delete(type)) {
      stream.destroy()
      return
    }
    stream.tellDropBy = 'end'
    this.#streams.set(type, stream)
    if (this.#missing.size === 0) this.#done()
  }

  get(type: StreamType): SpdyStream | undefined {
    return this.#streams.get(type)
  }

  get missing(): string {
    return [...this.#missing].join(', ')
  }
}

/** Room for what a client may type or paste while its process is busy, so that sizes behind it are seen. */
const STDIN_BYTES = 262_144
const MAX_STREAMS = 10
const FAREWELL_MS = 1_000

export interface SpdyCommandOptions extends CommandParts {
  version: CommandVersion
  /** How long a client may take to open its streams. */
  creationMs: number
}

/** Resolves when the session is over; the connection may linger until the client closes it. Never rejects. */
export const serveSpdyCommand = async (
  transport: Duplex,
  head: Buffer,
  request: ExecRequest | AttachRequest,
  { version, creationMs, backend, session }: SpdyCommandOptions,
): Promise<SessionEnd> => {
  const gathering = new Gathering(expectedStreams(request, version))
  const leave = (): void => session.abort(new RuntimeError('cancelled', 'The client took back a stream'))
  const connection = new SpdyConnection(
    transport,
    head,
    { stream: (stream) => gathering.take(stream), reset: leave, moved: session.moved, closed: session.abort },
    { maxStreams: MAX_STREAMS, receiveBytes: STDIN_BYTES },
  )
  const late = setTimeout(() => {
    const what = `The client did not open its streams in time (${gathering.missing})`
    session.abort(new RuntimeError('deadline-exceeded', what))
  }, creationMs)
  await Promise.race([gathering.complete, session.aborted])
  clearTimeout(late)
  const error = gathering.get('error')
  if (session.signal.aborted || error === undefined) {
    connection.destroy()
    return { how: 'failed', error: session.signal.reason }
  }
  // Clients close their half at once and never write.
  error.resume()
  const [stdin, stdout, stderr] = [gathering.get('stdin'), gathering.get('stdout'), gathering.get('stderr')]
  const channels = { stdin, stdout, stderr, resize: gathering.get('resize'), error, statusStyle: statusStyle(version) }
  stdout?.resume()
  stderr?.resume()
  const end = await serveCommand(request, channels, { backend, session })
  await Promise.race([connection.flushed(), session.aborted])
  if (session.signal.aborted) setTimeout(() => connection.destroy(), FAREWELL_MS)
  connection.finish()
  return end
}
