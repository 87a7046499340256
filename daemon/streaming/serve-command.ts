/** Exec and attach, once a transport has all its channels: runs the backend and tells the client how it ended. */
import type { Readable, Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Session } from './live-sessions.ts'
import type { AttachRequest, ExecRequest, RemoteStreams, StreamBackend } from './session.ts'
import { type SessionEnd, type StatusStyle, statusText } from './status-text.ts'
import { TerminalSizes } from './terminal-sizes.ts'

/** What a client opened. A stream that was asked for is there. */
export interface CommandChannels {
  stdin?: Readable | undefined
  stdout?: Writable | undefined
  stderr?: Writable | undefined
  resize?: Readable | undefined
  /** Where the status goes. */
  error: Writable
  statusStyle: StatusStyle
}

export interface CommandParts {
  backend: StreamBackend
  session: Session
}

/** How long a backend whose session was aborted may take to end, and the client to be told why. */
const BACKEND_GRACE_MS = 5_000
const FAREWELL_MS = 1_000

const within = async (work: Promise<unknown>, ms: number): Promise<void> => {
  const timer = new AbortController()
  await Promise.race([work, sleep(ms, undefined, { signal: timer.signal, ref: false }).catch(() => {})])
  timer.abort()
}

const run = async (
  request: ExecRequest | AttachRequest,
  streams: RemoteStreams,
  { backend, session }: CommandParts,
): Promise<SessionEnd> => {
  try {
    if (request.kind === 'exec') return await backend.exec(request, streams, session.signal)
    await backend.attach(request, streams, session.signal)
    return { how: 'exited', code: 0 }
  } catch (error) {
    return { how: 'failed', error }
  }
}

/** The end of the backend's work; what it says of being aborted matters less than why it was. */
const runUntilAborted = async (
  request: ExecRequest | AttachRequest,
  streams: RemoteStreams,
  parts: CommandParts,
): Promise<SessionEnd> => {
  const { signal, aborted } = parts.session
  const work = run(request, streams, parts)
  const end = await Promise.race([work, aborted])
  if (end) return end
  await within(work, BACKEND_GRACE_MS)
  return { how: 'failed', error: signal.reason }
}

/** Resolves when the stream has passed everything on, or never will. */
const ended = async (stream: Writable | undefined, last = ''): Promise<void> => {
  if (stream === undefined || stream.destroyed) return
  if (last === '') stream.end()
  else stream.end(last)
  await finished(stream, { readable: false }).catch(() => {})
}

/**
 * Resolves with the end when the transport has taken everything, or when the session was aborted meanwhile and the client had
 * a moment to take the reason. The channels are not usable after it. Never rejects.
 */
export const serveCommand = async (
  request: ExecRequest | AttachRequest,
  { stdin, stdout, stderr, resize, error, statusStyle }: CommandChannels,
  parts: CommandParts,
): Promise<SessionEnd> => {
  const { signal, aborted } = parts.session
  const sizes = new TerminalSizes()
  if (resize) sizes.follow(resize)
  const streams: RemoteStreams = {
    sizes,
    ...(stdin && { stdin }),
    ...(stdout && { stdout }),
    ...(stderr && { stderr }),
  }
  const end = await runUntilAborted(request, streams, parts)
  sizes.end()
  stdin?.destroy()
  await Promise.race([Promise.all([ended(stdout), ended(stderr)]), aborted])
  if (signal.aborted) {
    stdout?.destroy()
    stderr?.destroy()
    await within(ended(error, statusText(end, statusStyle)), FAREWELL_MS)
  } else await Promise.race([ended(error, statusText(end, statusStyle)), aborted])
  return end
}
