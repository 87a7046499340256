import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import { type Linux, linux } from '#linux/linux.ts'
import { isKind } from '#proto/errors.ts'
import { ContainerConfig } from '#proto/generated/api.ts'
import { silentLog } from '#proto/log.ts'
import { mintContainerId, mintSandboxId } from '../ids.ts'
import { Operations } from '../operations/operations.ts'
import { Stored } from '../records/stored.ts'
import type { Container, ContainerRecord, ContainerStatus } from './container.ts'
import { type StopNeeds, stop } from './stop-container.ts'
import { StopRaces } from './stop-races.ts'
import { Watches } from './watches.ts'

const SIGKILL = 9

/** A running container that no signal ends, as one is whose init sleeps in the kernel. */
function stuckContainer() {
  const id = mintContainerId()
  const record: ContainerRecord = {
    version: 1,
    id,
    key: id,
    sandboxId: mintSandboxId(),
    createdAt: 1n,
    runtimeHandler: '',
    bootId: '',
    config: ContainerConfig.fromPartial({}),
    imageId: '',
    imageRef: '',
    cgroupsPath: `/x/${id}`,
    cookie: '',
    imageVolumes: [],
  }
  const process = { user: { uid: 0, gid: 0, supplementalGroups: [] }, stopSignal: 'SIGTERM' }
  const init = { pid: 4_000_000, startTime: 1n }
  const running: ContainerStatus = { state: 'running', process, init, startedAt: 1n }
  const container: Container = new Stored<ContainerRecord, ContainerStatus>(record, running, async () => {})
  const ended = Promise.withResolvers<void>()
  const signals: number[] = []
  const fake: Linux = {
    ...linux,
    signalProcess: (_identity, signal) => signals.push(signal) > 0,
    thawCgroup: () => false,
  }
  const watches = new Watches()
  mock.method(watches, 'ended', () => ended.promise)
  const needs: Pick<StopNeeds, 'linux' | 'log' | 'operations' | 'stops' | 'watches'> = {
    linux: fake,
    log: silentLog,
    operations: new Operations(),
    stops: new StopRaces(),
    watches,
  }
  return { needs: needs as StopNeeds, container, ended, signals }
}

test('a caller is told that the container does not end; killing it goes on', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] })
  t.after(() => mock.timers.reset())
  const { needs, container, ended, signals } = stuckContainer()
  const first = stop(needs, container, 5_000)
  const failed = assert.rejects(first, (error) => isKind(error, 'deadline-exceeded'))
  assert.deepEqual(signals, [15])
  mock.timers.tick(5_000)
  assert.deepEqual(signals, [15, SIGKILL])
  mock.timers.tick(90_000)
  await failed
  const kills = signals.length
  mock.timers.tick(60_000)
  assert.ok(signals.length > kills)
  const second = stop(needs, container, 5_000)
  ended.resolve()
  await second
  const last = signals.length
  mock.timers.tick(600_000)
  assert.equal(signals.length, last)
})

test('a caller that goes away does not take the kill with it', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] })
  t.after(() => mock.timers.reset())
  const { needs, container, ended, signals } = stuckContainer()
  const caller = new AbortController()
  const call = stop(needs, container, 5_000, caller.signal)
  caller.abort(new Error('gone'))
  await assert.rejects(call, /gone/)
  mock.timers.tick(5_000)
  assert.deepEqual(signals, [15, SIGKILL])
  ended.resolve()
})
