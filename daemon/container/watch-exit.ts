/**
 * From a monitor's word (or its silence) to the container's `exited` status. The exit record on disk is the truth; the
 * monitor's event only says that it is worth reading. Losing the monitor never leaves a container running for ever.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '#proto/errors.ts'
import { nowNs } from '../clock.ts'
import type { ContainerId } from '../ids.ts'
import { type ExitRecord, readExitRecord } from '../monitor/exit-record.ts'
import type { MonitorClient } from '../monitor/monitor-client.ts'
import { hostCgroupPath } from '../oci/cgroup-path.ts'
import type { Parts } from '../parts.ts'
import type { Container, ContainerStatus, ExitedContainer } from './container.ts'
import { type RetireNeeds, retire } from './retire.ts'

export type WatchNeeds = RetireNeeds & Pick<Parts, 'linux' | 'log' | 'nri' | 'paths' | 'watches'>

/** Await the container's end and record it. */
export function watchExit(needs: WatchNeeds, container: Container, client: MonitorClient): void {
  const ended = Promise.race([client.exited, client.lost]).then(() => recordExit(needs, container))
  needs.watches.begin(container.record.id, client, ended)
}

/** Read how the container ended, make it durable, publish it, and give back what a dead container need not hold. */
export async function recordExit(needs: WatchNeeds, container: Container): Promise<void> {
  const { id, cgroupsPath } = container.record
  const record = await exitRecordOf(needs, id)
  if (!record) {
    // Nobody drains its output and nobody would see its end: it must not go on.
    needs.log.error('Lost the monitor of a container; killing the container', { container: id })
    await persistently(needs, id, () => needs.linux.killCgroup(hostCgroupPath(cgroupsPath)))
  }
  const { bytesLost = 0, journalLost = 0 } = record ?? {}
  if (bytesLost > 0 || journalLost > 0)
    needs.log.warn('Output of a container was lost', { container: id, bytes: bytesLost, journalRecords: journalLost })
  const exit = judged(record ? fromRecord(record) : lost(), needs.seccompNotifier.verdict(id))
  await persistently(needs, id, () =>
    container.update((status) => exited(status, exit), { durable: true, orLater: true }),
  )
  needs.nri.containers.hasEnded(container)
  void retire(needs, container).catch((cause) =>
    needs.log.warn('Cannot retire a container yet', { container: id, cause }),
  )
}

/** A record that cannot be read says no more than none. */
async function exitRecordOf({ log, paths }: WatchNeeds, id: ContainerId): Promise<ExitRecord | undefined> {
  try {
    return await readExitRecord(paths.container(id).dir)
  } catch (error) {
    log.error('Cannot read the exit record of a container', { container: id, why: messageOf(error) })
    return undefined
  }
}

type Exit = Pick<ExitedContainer, 'exitCode' | 'reason' | 'message' | 'startedAt' | 'finishedAt'>

/** The transition into `exited`; an exit that is already recorded stands, and so does a start. */
export function exited(status: ContainerStatus, exit: Exit): ContainerStatus {
  if (status.state === 'exited') return status
  return {
    state: 'exited',
    ...('resources' in status && { resources: status.resources }),
    ...('process' in status && { process: status.process }),
    ...exit,
    ...('startedAt' in status && { startedAt: status.startedAt }),
  }
}

export function fromRecord(record: ExitRecord): Exit {
  const reason = record.oomKilled ? 'OOMKilled' : record.code === 0 ? 'Completed' : 'Error'
  return {
    exitCode: record.code,
    reason,
    message: '',
    // The daemon may have died before it wrote the start down.
    ...(record.startedAtUnixNs !== undefined && { startedAt: record.startedAtUnixNs }),
    finishedAt: record.finishedAtUnixNs,
  }
}

const judged = (exit: Exit, verdict: string | undefined): Exit =>
  verdict === undefined ? exit : { ...exit, reason: 'SeccompKilled', message: verdict }

const lost = (): Exit => ({
  exitCode: 255,
  reason: 'MonitorLost',
  message: 'the monitor of the container ended before the container did',
  finishedAt: nowNs(),
})

/** An exit must not be forgotten because the disk is full just now, nor because a process cannot be killed just now. */
async function persistently(needs: WatchNeeds, id: ContainerId, write: () => Promise<unknown>): Promise<void> {
  for (let waitMs = 100; ; waitMs = Math.min(waitMs * 2, 10_000)) {
    try {
      await write()
      return
    } catch (error) {
      needs.log.error('Cannot end a container for good; trying again', {
        container: id,
        why: messageOf(error),
        waitMs,
      })
      await sleep(waitMs)
    }
  }
}
