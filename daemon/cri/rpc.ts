/** What every RPC has in common, written once: the caller's cancellation and deadline, the error map, the log line. */
import { type handleUnaryCall, type ServerUnaryCall, status } from '@grpc/grpc-js'
import { RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { statusFromError } from './status-from-error.ts'

/** Decode, call one use case, encode. The signal ends when the caller goes away or its deadline passes. */
export type Adapter<Req, Res> = (request: Req, signal: AbortSignal) => Promise<Res> | Res

export type Unary = <Req, Res>(adapter: Adapter<Req, Res>) => handleUnaryCall<Req, Res>

/** A maker of handlers that log to `log`, and say that somebody calls. */
export const unaryCalls =
  (log: Log, called: () => void): Unary =>
  (adapter) =>
  (call, callback) => {
    called()
    const rpc = call.getPath().split('/').at(-1) ?? call.getPath()
    const began = performance.now()
    const report = (outcome: string, level: 'debug' | 'info') =>
      log[level](rpc, { outcome, ms: Math.round(performance.now() - began) })
    const answer = async () => adapter(call.request, callerSignal(call, rpc))
    answer().then(
      (response) => {
        report('ok', 'debug')
        callback(null, response)
      },
      (error) => {
        const failure = statusFromError(error, rpc, log)
        report(`${failure.code}: ${failure.details}`, isNews(rpc, failure.code) ? 'info' : 'debug')
        callback(failure)
      },
    )
  }

/** The kubelet asks after every container that it has removed, several times: that there is none is the answer it wants. */
const isNews = (rpc: string, code: status): boolean => !(code === status.NOT_FOUND && /Stat(us|s)$/.test(rpc))

function callerSignal<Req, Res>(call: ServerUnaryCall<Req, Res>, rpc: string): AbortSignal {
  const caller = new AbortController()
  call.once('cancelled', () => caller.abort(new RuntimeError('cancelled', `The caller of ${rpc} went away`)))
  return caller.signal
}
