/**
 * After a restart: from what the disk says and the monitors know to the state that clients see. The steps run in order; the
 * list is the documentation. Nothing here is an event: all of it is read again from where the truth is (design D7).
 */
import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { monitorFiles } from '#proto/conmon.ts'
import { isKind, messageOf } from '#proto/errors.ts'
import { resumeInterrupted } from '../checkpoint/resume-interrupted.ts'
import { isToBeRestored, meetRestored } from '../checkpoint/start-restored.ts'
import { nowNs } from '../clock.ts'
import { type Container, isLive, running } from '../container/container.ts'
import { removeDeclaredVolumes } from '../container/declared-volumes.ts'
import { removeImageVolumes } from '../container/image-volumes.ts'
import { formerlyIsolated } from '../container/isolated.ts'
import type { RemoveNeeds } from '../container/remove-container.ts'
import { removeFiles } from '../container/remove-files.ts'
import { retire } from '../container/retire.ts'
import { watchFromAfar } from '../container/silent-monitors.ts'
import { exited, recordExit, type WatchNeeds, watchExit } from '../container/watch-exit.ts'
import { MonitorClient } from '../monitor/monitor-client.ts'
import { hostCgroupPath } from '../oci/cgroup-path.ts'
import type { Parts } from '../parts.ts'
import { watchInit } from '../sandbox/init-process.ts'
import { hasNamespaces } from '../sandbox/namespaces.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'
import { release, type StopSandboxNeeds } from '../sandbox/stop-sandbox.ts'
import { undoing } from '../undoing.ts'
import { insist, runSteps, type Step } from './step.ts'
import { resumeNetwork, type SweepNeeds, sweepDirectories, sweepRootfs } from './sweep.ts'

export type RestoreNeeds = WatchNeeds & RemoveNeeds & StopSandboxNeeds & SweepNeeds & Pick<Parts, 'bootId'>

const steps: readonly Step<RestoreNeeds>[] = [
  { name: 'undo unfinished containers', run: undoContainers, mayLast: true },
  { name: 'undo unfinished sandboxes', run: undoSandboxes, mayLast: true },
  { name: 'end containers of an earlier boot', run: endContainersOfEarlierBoot },
  { name: 'stop sandboxes of an earlier boot', run: stopSandboxesOfEarlierBoot },
  { name: 'stop sandboxes without namespaces', run: stopSandboxesWithoutNamespaces },
  { name: 'meet the monitors again', run: meetMonitors },
  { name: 'meet the sandbox inits again', run: meetInits },
  { name: 'isolate processors', run: isolateProcessors },
  { name: 'retire ended containers', run: retireEnded },
  { name: 'resume containers whose checkpoint was cut short', run: resumeInterrupted, mayLast: true },
  { name: 'sweep what no record owns', run: sweepDirectories, mayLast: true },
  { name: 'resume the pod network', run: resumeNetwork },
  { name: 'sweep root file systems', run: sweepRootfs, mayLast: true },
]

/** Bring every record up to date. What cannot be restored is logged and keeps nobody waiting. */
export const restore = (needs: RestoreNeeds): Promise<void> => runSteps(needs, steps)

async function each<T extends { record: { id: string } }>(
  needs: RestoreNeeds,
  objects: readonly T[],
  act: (object: T) => Promise<void>,
): Promise<number> {
  const attempt = async (object: T) => {
    try {
      await act(object)
    } catch (cause) {
      needs.log.error('Cannot restore an object', { id: object.record.id, why: messageOf(cause), cause })
    }
  }
  await Promise.all(objects.map(attempt))
  return objects.length
}

/** Those who ask for the same object again wait until the half of it that is there is gone. */
async function eachUndone<T extends { record: { id: string; key: string } }>(
  needs: RestoreNeeds,
  objects: readonly T[],
  undo: (object: T) => Promise<void>,
): Promise<number> {
  const undoOne = async (object: T) => {
    using _ = await needs.locks.take(undoing(object.record.key))
    await insist(needs.log, 'undo an unfinished object', object.record.id, () => undo(object))
  }
  await Promise.all(objects.map(undoOne))
  return objects.length
}

const ofThisBoot = (needs: RestoreNeeds, { record }: { record: { bootId: string } }) => record.bootId === needs.bootId

function undoContainers(needs: RestoreNeeds): Promise<number> {
  const unfinished = needs.containers.all().filter(({ status }) => status.state === 'creating')
  return eachUndone(needs, unfinished, async (container) => {
    const { id, cgroupsPath } = container.record
    if (ofThisBoot(needs, container)) {
      await dismissMonitor(needs, container)
      await retire(needs, container)
      await needs.linux.killCgroup(hostCgroupPath(cgroupsPath))
    }
    await removeImageVolumes(needs, container.record)
    await removeDeclaredVolumes(needs.paths.container(id))
    await needs.storage.rootfs.remove(id)
    await removeFiles(needs, needs.paths.container(id).dir)
    await needs.containers.delete(id)
  })
}

/** The monitor may be waiting for a create that nobody will ask for. */
async function dismissMonitor(needs: RestoreNeeds, { record }: Container): Promise<void> {
  try {
    const client = await MonitorClient.connect({
      dir: needs.paths.container(record.id).dir,
      cookie: record.cookie,
      log: needs.log,
    })
    await client.shutdown()
  } catch (error) {
    needs.log.debug('No monitor to dismiss', { container: record.id, why: messageOf(error) })
  }
}

function undoSandboxes(needs: RestoreNeeds): Promise<number> {
  const unfinished = needs.sandboxes.all().filter(({ status }) => status.state === 'creating')
  return eachUndone(needs, unfinished, async (sandbox) => {
    using operation = needs.operations.begin('Undo', sandbox.record.id)
    await release(needs, sandbox, operation, true)
    await rm(needs.paths.sandbox(sandbox.record.id).dir, { recursive: true, force: true })
    await needs.sandboxes.delete(sandbox.record.id)
  })
}

function endContainersOfEarlierBoot(needs: RestoreNeeds): Promise<number> {
  const gone = needs.containers.all().filter((container) => isLive(container) && !ofThisBoot(needs, container))
  return each(needs, gone, async (container) => {
    const exit = { exitCode: 255, reason: 'Unknown', message: 'the node was restarted', finishedAt: nowNs() }
    await container.update((status) => exited(status, exit), { durable: true, orLater: true })
  })
}

function stopSandboxesOfEarlierBoot(needs: RestoreNeeds): Promise<number> {
  const gone = needs.sandboxes
    .all()
    .filter((sandbox) => sandbox.status.state === 'ready' && !ofThisBoot(needs, sandbox))
  return each(needs, gone, async (sandbox) => {
    await sandbox.update(() => ({ state: 'stopped', released: false }), { orLater: true })
  })
}

/** Given back by a daemon that a full disk kept from writing it down, or by somebody else. */
function stopSandboxesWithoutNamespaces(needs: RestoreNeeds): Promise<number> {
  const bare = needs.sandboxes
    .all()
    .filter(
      ({ status, record }) => status.state === 'ready' && !hasNamespaces(needs.paths.sandbox(record.id), record.config),
    )
  return each(needs, bare, async (sandbox) => {
    await sandbox.update(() => ({ state: 'stopped', released: false }), { orLater: true })
  })
}

function meetMonitors(needs: RestoreNeeds): Promise<number> {
  const live = needs.containers.all().filter((container) => isLive(container) && ofThisBoot(needs, container))
  return each(needs, live, (container) => meetMonitor(needs, container))
}

/** How long the start waits for a monitor that does not answer. */
const promptlyMs = 3_000

async function meetMonitor(needs: RestoreNeeds, container: Container): Promise<void> {
  const { id, cookie } = container.record
  const { dir } = needs.paths.container(id)
  // An exit record ends the question: its monitor may still be on its way out.
  if (existsSync(join(dir, monitorFiles.exitRecord))) return recordExit(needs, container)
  const connectOnce = () => {
    const signal = AbortSignal.timeout(promptlyMs)
    return MonitorClient.connect({ dir, cookie, log: needs.log.child({ container: id }), signal })
  }
  if (isToBeRestored(container)) return meetIfThere(needs, container, connectOnce)
  const connect = async () => {
    const client = await connectOnce()
    await catchUp(container, client)
    return client
  }
  try {
    watchExit(needs, container, await connect())
  } catch (error) {
    if (isKind(error, 'unavailable')) return recordExit(needs, container)
    needs.log.warn('A monitor does not answer; going on without it', { container: id, why: messageOf(error) })
    needs.watches.begin(id, undefined, watchFromAfar(needs, container, connect))
  }
}

/** Before its start a container that is to be restored has no monitor. */
async function meetIfThere(
  needs: RestoreNeeds,
  container: Container,
  connect: () => Promise<MonitorClient>,
): Promise<void> {
  try {
    await meetRestored(needs, container, await connect())
  } catch (error) {
    if (!isKind(error, 'unavailable')) throw error
  }
}

/** The daemon may have died between the runtime's start and writing it down. */
async function catchUp(container: Container, client: MonitorClient): Promise<void> {
  const status = await client.status()
  if (status.state !== 'alive' || !status.started) return
  // Monitors of the first days do not know when.
  const startedAt = status.startedAtUnixNs ?? nowNs()
  await container.update((now) => (now.state === 'created' ? running(now, startedAt) : now), { orLater: true })
}

function meetInits(needs: RestoreNeeds): Promise<number> {
  const withInit = needs.sandboxes.all().filter(({ status }) => status.state === 'ready' && status.init !== undefined)
  return each(needs, withInit, (sandbox) => meetInit(needs, sandbox))
}

async function meetInit(needs: RestoreNeeds, sandbox: Sandbox): Promise<void> {
  const { id } = sandbox.record
  try {
    const dir = needs.paths.sandbox(id).init
    const client = await MonitorClient.connect({
      dir,
      cookie: sandbox.record.cookie,
      log: needs.log.child({ sandbox: id }),
    })
    watchInit(needs, sandbox, client)
  } catch (error) {
    if (!isKind(error, 'unavailable')) throw error
    await sandbox.update(() => ({ state: 'stopped', released: false }), { orLater: true })
  }
}

/** Also gives back what containers had that ended while no daemon was there. */
async function isolateProcessors(needs: RestoreNeeds): Promise<number> {
  const live = needs.containers.all().filter(({ status }) => status.state === 'running')
  const isolated = live.flatMap((container) => {
    const found = formerlyIsolated(needs, container)
    return found ? [[container.record.id, found] as const] : []
  })
  await needs.isolation.restore(new Map(isolated))
  return isolated.length
}

/** What the daemon died before giving back. Nobody waits for it: a runtime that hangs must not keep the node away. */
async function retireEnded(needs: RestoreNeeds): Promise<number> {
  const ended = needs.containers
    .all()
    .filter((container) => container.status.state === 'exited' && ofThisBoot(needs, container))
  void each(needs, ended, (container) => retire(needs, container))
  return ended.length
}
