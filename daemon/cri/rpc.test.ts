import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ServerUnaryCall } from '@grpc/grpc-js'
import { RuntimeError } from '#proto/errors.ts'
import { silentLog } from '#proto/log.ts'
import { unaryCalls } from './rpc.ts'

/** The level at which a call of this RPC is logged when it throws `error`. */
async function levelOf(rpc: string, error: Error): Promise<string> {
  const levels: string[] = []
  const log = { ...silentLog, debug: () => levels.push('debug'), info: () => levels.push('info') }
  const call: Partial<ServerUnaryCall<object, object>> = { request: {}, getPath: () => `/runtime.v1/${rpc}` }
  const handler = unaryCalls({ ...log, child: () => silentLog }, () => {})<object, object>(() => Promise.reject(error))
  await new Promise<void>((resolve) =>
    handler({ ...call, once: () => call } as unknown as ServerUnaryCall<object, object>, () => resolve()),
  )
  return levels.join()
}

test('asking after what has gone is no news: the kubelet does so for each container that it has removed', async () => {
  const gone = new RuntimeError('not-found', 'gone')
  for (const rpc of ['ContainerStatus', 'PodSandboxStatus', 'ContainerStats', 'PodSandboxStats'])
    assert.equal(await levelOf(rpc, gone), 'debug', rpc)
  assert.equal(await levelOf('StartContainer', gone), 'info')
  assert.equal(await levelOf('ContainerStatus', new RuntimeError('unavailable', 'busy')), 'info')
})
