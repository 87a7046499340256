/** The socket on which `cricket image load` asks a running daemon: over HTTP, for root only. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import * as z from 'zod'
import type { ImageRecord, Images } from '#image/image-store.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'

export const LOAD_PATH = '/load'

const MAX_REQUEST_BYTES = 64 * 1024

export const LoadRequestFields = z.strictObject({
  path: z.string().startsWith('/').max(4096),
  name: z.string().max(1024).optional(),
  pin: z.boolean().optional(),
})

export const LoadAnswer = z.union([
  z.object({ loaded: z.array(z.object({ id: z.string(), names: z.array(z.string()) })) }),
  z.object({ kind: z.string(), message: z.string() }),
])

/** Opens the socket, and hands over who connects. */
type Listen = (accept: (socket: Socket) => void) => Promise<{ close(): Promise<void> }>

export async function serveLoads(
  listen: Listen,
  images: Pick<Images, 'load'>,
  log: Log,
): Promise<{ close(): Promise<void> }> {
  const server = createServer((request, response) => void answer(request, response, images, log))
  const socket = await listen((connection) => void server.emit('connection', connection))
  return {
    close: async () => {
      await socket.close()
      server.closeAllConnections()
    },
  }
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  images: Pick<Images, 'load'>,
  log: Log,
): Promise<void> {
  const left = new AbortController()
  response.once('close', () => left.abort(new RuntimeError('cancelled', 'Nobody waits for the images any more')))
  try {
    if (request.method !== 'POST' || request.url !== LOAD_PATH)
      throw new RuntimeError('unimplemented', 'No such request')
    const asked = LoadRequestFields.parse(await readJson(request))
    const loaded = await images.load(asked, left.signal)
    log.info('Loaded images', { path: asked.path, images: loaded.map(({ id }) => id) })
    send(response, 200, { loaded: loaded.map((image) => ({ id: image.id, names: namesOf(image) })) })
  } catch (error) {
    log.warn('Cannot load images', { why: messageOf(error) })
    const kind = error instanceof RuntimeError ? error.kind : 'internal'
    send(response, 400, { kind, message: messageOf(error) })
  }
}

const namesOf = ({ repoTags, repoDigests }: ImageRecord): string[] => [
  ...(repoTags.length > 0 ? repoTags : repoDigests),
]

function send(response: ServerResponse, status: number, answer: z.infer<typeof LoadAnswer>): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  let text = ''
  for await (const piece of request) {
    text += piece
    if (text.length > MAX_REQUEST_BYTES) throw new RuntimeError('invalid-argument', 'The request is too long')
  }
  return JSON.parse(text)
}
