/**
 * StartContainer of a container that is made from a checkpoint: its monitor is launched only now and has the OCI runtime restore it, which
 * creates and starts it in one. A failure leaves an exited container that tells why, with what CRIU said.
 */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { isKind, messageOf, RuntimeError } from '#proto/errors.ts'
import { nowNs } from '../clock.ts'
import type { Container } from '../container/container.ts'
import { isolatedOf } from '../container/isolated.ts'
import { type RetireNeeds, retire } from '../container/retire.ts'
import { type MonitorNeeds, startMonitor } from '../container/start-monitor.ts'
import { exited, watchExit } from '../container/watch-exit.ts'
import type { MonitorClient } from '../monitor/monitor-client.ts'
import type { Operation } from '../operations/operations.ts'
import type { Parts } from '../parts.ts'
import { podHostname } from '../sandbox/etc-files.ts'
import { podNamespaces } from '../sandbox/sandbox.ts'
import { archiveFiles } from './archive.ts'
import { complaints, criuLog, oneLine } from './dump-container.ts'

export type RestoreNeeds = RetireNeeds & MonitorNeeds & Pick<Parts, 'nri' | 'operations' | 'sandboxes' | 'watches'>

const RESTORE_LOG = 'restore.log'

/** Whether it waits for its start without a process. */
export const isToBeRestored = ({ record, status }: Container): boolean =>
  record.restored === true && status.state === 'created' && status.init === undefined

/** The caller has the container's lock. @throws RuntimeError failed-precondition, deadline-exceeded */
export async function startRestored(needs: RestoreNeeds, container: Container): Promise<void> {
  const { id } = container.record
  using operation = needs.operations.begin('StartContainer', id)
  // Whoever stops it meanwhile waits for what becomes of it.
  const ended = Promise.withResolvers<void>()
  needs.watches.begin(id, undefined, ended.promise)
  try {
    await restore(needs, container, operation)
    ended.resolve(needs.watches.ended(id))
  } catch (error) {
    const message = messageOf(error)
    const exit = { exitCode: 128, reason: 'StartError', message, finishedAt: nowNs() }
    await container.update((now) => exited(now, exit), { durable: true, orLater: true })
    ended.resolve()
    needs.log.warn('Container was not restored', { container: id, why: message })
    void retire(needs, container).catch((cause) =>
      needs.log.warn('Cannot retire a container yet', { container: id, cause }),
    )
    throw error
  }
  operation.enter('reply')
}

async function restore(needs: RestoreNeeds, container: Container, operation: Operation): Promise<void> {
  const { record } = container
  const { id, sandboxId } = record
  const { checkpoint: work } = needs.paths.container(id)
  const sandbox = needs.sandboxes.require(sandboxId)
  const restore = { images: join(work, archiveFiles.images), work, criu: needs.config.checkpoint.criu }
  operation.enter('monitor')
  const handler = needs.handlers.of(record)
  const client = await startMonitor(needs, { sandbox, container, handler, restore })
  operation.enter('runtime')
  const isolated = isolatedOf(needs, container)
  if (isolated) await needs.isolation.begin(id, isolated)
  const init = await client.create().catch((error) => refused(error, join(work, RESTORE_LOG)))
  operation.enter('publish')
  keepHostname(needs, container)
  const startedAt = nowNs()
  await container.update((now) => (now.state === 'created' ? { ...now, state: 'running', init, startedAt } : now), {
    orLater: true,
  })
  watchExit(needs, container, client)
  removeFilesLater(needs, container)
}

/** With what CRIU says: the OCI runtime knows no more than that it failed. */
async function refused(error: unknown, log: string): Promise<never> {
  if (!isKind(error, 'internal') && !isKind(error, 'failed-precondition')) throw error
  const message = [oneLine(error.message), ...complaints(await criuLog(log))].join('; ')
  throw new RuntimeError('failed-precondition', message, { cause: error })
}

/** CRIU gives the pod the name that the pod of the checkpoint had. */
function keepHostname({ linux, paths, sandboxes }: RestoreNeeds, { record }: Container): void {
  const { config } = sandboxes.require(record.sandboxId).record
  if (podNamespaces(config).hostNetwork) return
  const uts = paths.sandbox(record.sandboxId).pin('uts')
  linux.inNamespaces({ uts }, () => linux.setHostname(podHostname(config)))
}

function removeFilesLater({ log, paths }: Pick<RestoreNeeds, 'log' | 'paths'>, { record }: Container): void {
  const { checkpoint: path } = paths.container(record.id)
  rm(path, { recursive: true, force: true }).catch((error) =>
    log.warn('Left behind by a restored container', { path, why: messageOf(error) }),
  )
}

export type MeetNeeds = Parameters<typeof watchExit>[0]

/**
 * After a restart: the daemon may have died while it had the container restored, and then it runs or waits for nobody.
 * @param client the monitor
 */
export async function meetRestored(needs: MeetNeeds, container: Container, client: MonitorClient): Promise<void> {
  const status = await client.status()
  if (status.state !== 'alive') return client.shutdown()
  const { init, startedAtUnixNs: startedAt = nowNs() } = status
  await container.update((now) => (now.state === 'created' ? { ...now, state: 'running', init, startedAt } : now), {
    orLater: true,
  })
  watchExit(needs, container, client)
}
