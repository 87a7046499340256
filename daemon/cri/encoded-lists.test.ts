import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { linux } from '#linux/linux.ts'
import { ListPodSandboxResponse, PodSandboxConfig, PodSandboxState } from '#proto/generated/api.ts'
import { silentLog } from '#proto/log.ts'
import { mintSandboxId } from '../ids.ts'
import { RecordStore } from '../records/record-store.ts'
import { type SandboxStore, sandboxCodec } from '../sandbox/sandbox.ts'
import { encodedLists } from './encoded-lists.ts'
import type { Unary } from './rpc.ts'
import { streamingCalls } from './stream-rpc.ts'

test('a list tells the state of now, though its items are encoded once', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'cricket-lists-'))
  t.after(() => rm(dir, { recursive: true }))
  const sandboxes: SandboxStore = new RecordStore({ dir, codec: sandboxCodec, linux, log: silentLog })
  await sandboxes.load()
  const answers: Promise<unknown>[] = []
  // Instead of an RPC: the adapter's answer to a request without a filter.
  const unary: Unary = (adapter) => (call) =>
    void answers.push(Promise.resolve(adapter(call.request, new AbortController().signal)))
  const { listPodSandbox } = encodedLists(
    { sandboxes, containers: sandboxes as never },
    unary,
    streamingCalls(silentLog, () => {}),
  )
  const list = async () => {
    listPodSandbox({ request: { filter: undefined } } as never, () => {})
    const bytes = await answers.pop()
    assert.ok(Buffer.isBuffer(bytes))
    return ListPodSandboxResponse.decode(bytes).items.map(({ metadata, state }) => [metadata?.name, state])
  }
  const make = async (name: string, createdAt: bigint) => {
    const metadata = { name, uid: name, namespace: 'n', attempt: 0 }
    const config = PodSandboxConfig.fromPartial({ metadata })
    const id = mintSandboxId()
    const record = { version: 1 as const, id, key: name, createdAt, runtimeHandler: '', bootId: '', cookie: '', config }
    return sandboxes.create(record, { state: 'ready', ips: [] })
  }
  const late = await make('late', 2n)
  await make('early', 1n)
  const { SANDBOX_READY, SANDBOX_NOTREADY } = PodSandboxState
  for (let again = 0; again < 2; again++) {
    assert.deepEqual(await list(), [
      ['early', SANDBOX_READY],
      ['late', SANDBOX_READY],
    ])
  }
  await late.update(() => ({ state: 'stopped', released: true }))
  assert.deepEqual(await list(), [
    ['early', SANDBOX_READY],
    ['late', SANDBOX_NOTREADY],
  ])
  await sandboxes.delete(late.record.id)
  assert.deepEqual(await list(), [['early', SANDBOX_READY]])
})
