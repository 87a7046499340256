/** What every server-streaming RPC has in common: chunks under the message limit, back-pressure, the error map, the log line. */
import { once } from 'node:events'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { handleServerStreamingCall, ServerWritableStream } from '@grpc/grpc-js'
import type { Log } from '#proto/log.ts'
import { statusFromError } from './status-from-error.ts'

/** The responses in their order; made one by one, as the client takes them. */
export type StreamAdapter<Req, Res> = (request: Req) => Iterable<Res> | AsyncIterable<Res>

export type Streaming = <Req, Res>(adapter: StreamAdapter<Req, Res>) => handleServerStreamingCall<Req, Res>

/** A maker of handlers that log to `log`, and say that somebody calls. */
export const streamingCalls =
  (log: Log, called: () => void): Streaming =>
  (adapter) =>
  (call) => {
    called()
    const rpc = call.getPath().split('/').at(-1) ?? call.getPath()
    const ending = new AbortController()
    call.once('cancelled', () => ending.abort())
    send(call, adapter, ending.signal).then(
      () => log.debug(rpc, { outcome: 'ok' }),
      (error) => {
        if (ending.signal.aborted) return
        const failure = statusFromError(error, rpc, log)
        log.info(rpc, { outcome: `${failure.code}: ${failure.details}` })
        // grpc-js ends the stream with the status of the error it is destroyed with.
        call.emit('error', failure)
      },
    )
  }

async function send<Req, Res>(
  call: ServerWritableStream<Req, Res>,
  adapter: StreamAdapter<Req, Res>,
  signal: AbortSignal,
): Promise<void> {
  for await (const response of adapter(call.request)) {
    if (!call.write(response)) await once(call, 'drain', { signal })
    // A client that takes everything at once must not keep the others from theirs.
    await nextTurn(undefined, { signal })
  }
  call.end()
}

/** Some hundred bytes to a few kilobytes each: a chunk stays far below the 16 MiB of a message. */
const itemsPerChunk = 1_000

/** A response for each chunk of the items; none when there is none. */
export function* inChunks<T, Res>(items: readonly T[], response: (some: readonly T[]) => Res): Generator<Res> {
  for (let begin = 0; begin < items.length; begin += itemsPerChunk) {
    yield response(items.slice(begin, begin + itemsPerChunk))
  }
}
