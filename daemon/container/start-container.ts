/** StartContainer: from `created` to `running`. A start that fails leaves an exited container that tells why. */
import { constants } from 'node:os'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import { isToBeRestored, type RestoreNeeds, startRestored } from '../checkpoint/start-restored.ts'
import { nowNs } from '../clock.ts'
import type { MonitorClient } from '../monitor/monitor-client.ts'
import type { Parts } from '../parts.ts'
import { type Container, running } from './container.ts'
import type { DecideNeeds } from './decided-resources.ts'
import { isolatedOf } from './isolated.ts'
import { exited } from './watch-exit.ts'

export type StartNeeds = RestoreNeeds &
  DecideNeeds &
  Pick<Parts, 'containers' | 'isolation' | 'locks' | 'linux' | 'log' | 'nri' | 'operations' | 'stops' | 'watches'>

/** @throws RuntimeError not-found, or failed-precondition when the container is not `created` or its start fails. */
export async function startContainer(needs: StartNeeds, idOrPrefix: string): Promise<void> {
  const container = needs.containers.require(idOrPrefix)
  using _ = await needs.locks.take(container.record.id)
  requireStartable(needs, container)
  if (isToBeRestored(container)) {
    await needs.nri.containers.start(container)
    await startRestored(needs, container)
    needs.nri.containers.hasStarted(container)
    return
  }
  const client = requireMonitor(needs, container)
  using operation = needs.operations.begin('StartContainer', container.record.id)
  try {
    operation.enter('plugins')
    await needs.nri.containers.start(container)
    operation.enter('runtime')
    const isolated = isolatedOf(needs, container)
    if (isolated) await needs.isolation.begin(container.record.id, isolated)
    await client.start()
  } catch (error) {
    if (needs.stops.isOn(container.record.id) || container.status.state === 'exited') {
      // Its end is the story, and whoever stopped it has to tell it: how it ended is in its exit record.
      throw new RuntimeError(
        'failed-precondition',
        `Container "${container.record.id}" ended while it was being started`,
        { cause: error },
      )
    }
    await startFailed(needs, container, error)
    throw error
  }
  operation.enter('publish')
  const startedAt = nowNs()
  await container.update(
    (status) => {
      if (status.state === 'created') return running(status, startedAt)
      // So short-lived that its exit was recorded first: it did start all the same.
      if (status.state === 'exited') return { ...status, startedAt: min(startedAt, status.finishedAt) }
      return status
    },
    { orLater: true },
  )
  needs.nri.containers.hasStarted(container)
  operation.enter('reply')
}

function requireStartable(needs: StartNeeds, container: Container): void {
  const { id, sandboxId } = container.record
  const { state } = container.status
  if (state !== 'created')
    throw new RuntimeError('failed-precondition', `Cannot start container "${id}": it is ${state}`)
  if (needs.sandboxes.get(sandboxId)?.status.state !== 'ready') {
    throw new RuntimeError(
      'failed-precondition',
      `Cannot start container "${id}": its sandbox "${sandboxId}" is not ready`,
    )
  }
}

function requireMonitor(needs: StartNeeds, { record: { id } }: Container): MonitorClient {
  const client = needs.watches.client(id)
  if (!client) throw new RuntimeError('failed-precondition', `Cannot start container "${id}": it has no monitor`)
  return client
}

/** Kept as exited 128 "StartError" until the kubelet removes it, so that the reason can be read (as containerd does). */
async function startFailed(needs: StartNeeds, container: Container, error: unknown): Promise<void> {
  const { status, record } = container
  await container.update(
    (now) => exited(now, { exitCode: 128, reason: 'StartError', message: messageOf(error), finishedAt: nowNs() }),
    { durable: true, orLater: true },
  )
  if (status.state === 'created' && status.init) needs.linux.signalProcess(status.init, constants.signals.SIGKILL)
  needs.log.warn('Container did not start', { container: record.id, why: messageOf(error) })
}

const min = (a: bigint, b: bigint): bigint => (a < b ? a : b)
