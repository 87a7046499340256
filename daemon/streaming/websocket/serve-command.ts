/** Exec and attach over WebSocket: five fixed channels. */
import type { WebSocket } from 'ws'
import { type CommandParts, serveCommand } from '../serve-command.ts'
import type { AttachRequest, ExecRequest } from '../session.ts'
import type { SessionEnd } from '../status-text.ts'
import { type Direction, WebSocketChannels } from './channels.ts'

const STDIN = 0
const STDOUT = 1
const STDERR = 2
const ERROR = 3
const RESIZE = 4

const STDIN_BYTES = 262_144
const FAREWELL_MS = 1_000

const directions = ({ stdin, stdout, stderr, tty }: ExecRequest | AttachRequest): Direction[] => [
  stdin ? 'in' : 'ignored',
  stdout ? 'out' : 'ignored',
  stderr && !tty ? 'out' : 'ignored',
  'out',
  tty ? 'in' : 'ignored',
]

/** Resolves when the session is over; the connection may linger until the client closes it. Never rejects. */
export const serveChannelCommand = async (
  socket: WebSocket,
  request: ExecRequest | AttachRequest,
  { subprotocol, backend, session }: CommandParts & { subprotocol: string },
): Promise<SessionEnd> => {
  const channels = new WebSocketChannels(socket, {
    encoding: subprotocol.includes('base64') ? 'base64' : 'binary',
    directions: directions(request),
    closes: subprotocol.startsWith('v5.'),
    receiveBytes: STDIN_BYTES,
    moved: session.moved,
    closed: session.abort,
  })
  const open = (id: number, isWanted: boolean) => (isWanted ? channels.channel(id) : undefined)
  const error = channels.channel(ERROR)
  // Clients wait for a first message, however short, to know that they are connected.
  const greeted = request.stdout ? STDOUT : request.stderr && !request.tty ? STDERR : ERROR
  channels.send(greeted, Buffer.alloc(0), () => {})
  const end = await serveCommand(
    request,
    {
      stdin: open(STDIN, request.stdin),
      stdout: open(STDOUT, request.stdout),
      stderr: open(STDERR, request.stderr && !request.tty),
      resize: open(RESIZE, request.tty),
      error,
      statusStyle: /^v[45]\./.test(subprotocol) ? 'json' : 'sentence',
    },
    { backend, session },
  )
  await Promise.race([channels.flushed(), session.aborted])
  if (session.signal.aborted) setTimeout(() => channels.destroy(), FAREWELL_MS)
  channels.finish()
  return end
}
