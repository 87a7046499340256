/** The assembled daemon: the only file that builds parts; everything else is handed what it needs. */
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Images, openImages } from '#image/image-store.ts'
import type { AdoptedChildren } from '#linux/adopted-children.ts'
import { isErrno } from '#linux/errno.ts'
import type { HostFacts } from '#linux/host-facts.ts'
import { linux as realLinux } from '#linux/linux.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { KeyedLock } from '#storage/keyed-lock.ts'
import { SingleFlight } from '#storage/single-flight.ts'
import { SlowLooks } from '#storage/slow-looks.ts'
import { openStorage } from '#storage/storage.ts'
import { checkNode } from './check/check-node.ts'
import { type RunCheck, serveChecks } from './check/serve-checks.ts'
import type { Followers } from './config/reload.ts'
import type { Config } from './config/schema.ts'
import { type ContainerStore, containerCodec, usesImage } from './container/container.ts'
import { wishGranter } from './container/grant-wishes.ts'
import { stopContainer } from './container/stop-container.ts'
import { StopRaces } from './container/stop-races.ts'
import { Watches } from './container/watches.ts'
import { openIsolation } from './cpu-isolation/open-isolation.ts'
import { openSocket } from './cri/cri-socket.ts'
import { type CriServer, serveCri } from './cri/server.ts'
import { EventLoopLag } from './event-loop-lag.ts'
import { OrderedClock } from './events/ordered-clock.ts'
import { keepHouse } from './housekeeping.ts'
import { serveLoads } from './image-load/serve-loads.ts'
import { imagesConfig } from './images-config.ts'
import { makeDirectories, makeListenerDirectory } from './make-directories.ts'
import { monitorProgram } from './monitor/monitor-program.ts'
import { SpareMonitors } from './monitor/spare-monitors.ts'
import { tableName } from './network/host-ports/rules.ts'
import { openPodNetwork } from './network/pod-network.ts'
import { makeNri } from './nri/nri.ts'
import { readSpec } from './nri/read-spec.ts'
import { loadDefaultProfile } from './oci/apparmor-profile.ts'
import { openRuntimeHandlers } from './oci/runtime-handlers.ts'
import { specHost } from './oci/spec-host.ts'
import { Operations, type StageWatcher } from './operations/operations.ts'
import type { Parts } from './parts.ts'
import { pathsUnder, rootPaths } from './paths.ts'
import { claimRecords } from './records/machine.ts'
import { RecordStore } from './records/record-store.ts'
import { restore } from './recovery/restore.ts'
import { type SandboxStore, sandboxCodec } from './sandbox/sandbox.ts'
import { SeccompNotifier } from './seccomp/notifier.ts'
import { Stats } from './stats/stats.ts'
import { storageOptions } from './storage-options.ts'
import { openStreamingServer } from './streaming/open-server.ts'
import { streamBackend } from './streaming/sessions/backend.ts'
import { Forwards } from './streaming/sessions/port-forward.ts'

export interface Daemon {
  /** What a reload of the configuration changes. */
  readonly followers: Omit<Followers, 'setLogLevel'>
  /** Whether images are being brought here. */
  isBusy(): boolean
  /** What calls bring about besides their answers. */
  readonly slowLooks: SlowLooks
  /** Let calls in flight end, for at most ten seconds, and go. Containers are not touched. */
  close(): Promise<void>
}

/** Files of operators are looked at that often, in case the kernel's notices of changes fail. */
const filesEveryMs = 5_000
const closeGraceMs = 10_000
const abortGraceMs = 3_000
/** A shell that somebody left open ends with the daemon; what is about to end may do so. */
const streamGraceMs = 2_000

/**
 * Open everything, bring the records up to date, then listen.
 * @param children the orphans that this process takes in
 * @param watcher is told of each stage of each operation
 * @throws RuntimeError failed-precondition when another daemon has the same directories or socket
 */
export async function startDaemon(
  config: Config,
  log: Log,
  children: AdoptedChildren,
  watcher?: StageWatcher,
): Promise<Daemon> {
  const linux = realLinux
  const paths = pathsUnder(config.root, config.state, config.storage.containersRoot)
  await makeDirectories(config, paths)
  const lock = lockState(linux, paths.stateLock, config.state)
  await makeListenerDirectory(paths)
  const host = linux.probeHost()
  const sandboxes: SandboxStore = new RecordStore({ dir: paths.sandboxRecords, codec: sandboxCodec, linux, log })
  const containers: ContainerStore = new RecordStore({ dir: paths.containerRecords, codec: containerCodec, linux, log })
  const [storage, handlers, apparmorProfile] = await Promise.all([
    openStorage({ root: paths.storage, linux, log: log.child({ part: 'storage' }), ...storageOptions(config) }),
    openRuntimeHandlers(config.runtimes, log),
    loadDefaultProfile(linux, host, log),
  ])
  // Only now: the storage is locked, so no other daemon is at work on the same records.
  for (const dir of [config.root, paths.networkCache]) await linux.removeUnfinishedWrites(dir)
  await Promise.all([sandboxes.load(), containers.load()])
  await claimRecords({ linux, root: config.root, records: sandboxes.all().length + containers.all().length })
  // One array for the life of the daemon: its content follows the configuration.
  const insecureRegistries = [...config.image.insecureRegistries]
  const eventLoopLag = new EventLoopLag()
  const slowLooks = new SlowLooks()
  const images = await openImages({
    storage,
    root: paths.images,
    additionalRoots: config.image.additionalStores.map((dir) => rootPaths(dir).images),
    config: imagesConfig(config.image, insecureRegistries, process.env),
    linux,
    log: log.child({ part: 'image' }),
    inUse: (id) => containers.all().some(({ record }) => usesImage(record, id)),
    during: () => eventLoopLag.measure(),
    repeat: slowLooks.every(filesEveryMs),
  })
  const network = openPodNetwork({
    configDir: config.network.configDir,
    binDirs: config.network.binDirs,
    cacheDir: paths.networkCache,
    hostPortTable: tableName(config.root),
    waitMs: config.network.waitSeconds * 1000,
    log: log.child({ part: 'network' }),
    linux,
    repeat: slowLooks.every(filesEveryMs),
  })
  const program = monitorProgram(config.monitor)
  const base: Omit<Parts, 'streaming'> = {
    config,
    log,
    linux,
    children,
    host,
    specHost: specHost(host, {
      apparmorDefaultProfile: apparmorProfile,
      selinuxRequired: config.container.requireSelinux,
    }),
    bootId: linux.bootId(),
    paths,
    storage,
    images,
    network,
    handlers,
    monitorProgram: program,
    spares: new SpareMonitors({
      program,
      linux,
      log: log.child({ part: 'monitors' }),
      count: config.monitor.spares,
      ...(config.monitor.cgroup !== undefined && { cgroup: config.monitor.cgroup }),
    }),
    sandboxes,
    containers,
    flights: new SingleFlight(),
    operations: new Operations(watcher),
    locks: new KeyedLock(),
    watches: new Watches(),
    sandboxInits: new Map(),
    seccompNotifier: new SeccompNotifier(log),
    nri: makeNri({ config, sandboxes, containers, paths, log, readSpec: (container) => readSpec(base, container) }),
    isolation: openIsolation(config, paths, linux, log),
    forwards: new Forwards(),
    stops: new StopRaces(),
    eventClock: new OrderedClock(),
    eventLoopLag,
    slowLooks,
    stats: new Stats({ config, containers, linux, log, paths, sandboxes }),
    swept: { directories: 0, rootfs: 0 },
  }
  const streaming = await openStreamingServer({
    config: config.streaming,
    backend: streamBackend(base),
    log: log.child({ part: 'streaming' }),
  })
  const parts: Parts = { ...base, streaming }
  parts.seccompNotifier.onStop((id) => stopContainer(parts, id, 0n))
  logHost(log, host)
  await restore(parts)
  await preload(images, config.image.preload, log)
  // Before the first call: no pod of this daemon is made that its plugins do not hear of.
  await parts.nri.open(wishGranter(parts))
  const server = await serveCri(parts, config.listen)
  const runCheck: RunCheck = (repair, signal) => checkNode(parts, repair, signal)
  const checkLog = log.child({ part: 'check' })
  const checks = await serveChecks((accept) => openSocket(paths.checkSocket, accept, checkLog), runCheck, checkLog)
  const loadLog = log.child({ part: 'load' })
  const loads = await serveLoads((accept) => openSocket(paths.loadSocket, accept, loadLog), images, loadLog)
  const endHousekeeping = keepHouse(parts)
  log.info('Listening', { socket: config.listen })
  parts.spares.refill()
  return {
    slowLooks,
    followers: {
      setRuntimes: (fresh) => handlers.replace(fresh),
      setStreaming: (fresh) => streaming.reload(fresh),
      setInsecureRegistries: (hosts) => void insecureRegistries.splice(0, Infinity, ...hosts),
    },
    isBusy: () => images.operations().length > 0,
    close: async () => {
      endHousekeeping()
      await Promise.all([checks.close(), loads.close()])
      await close(parts, server, lock)
    },
  }
}

function lockState(linux: Parts['linux'], path: string, state: string): { release(): void } {
  try {
    return linux.lockFile(path)
  } catch (cause) {
    if (!isErrno(cause, 'EWOULDBLOCK', 'EAGAIN')) throw cause
    throw new RuntimeError('failed-precondition', `Another cricket uses the state directory "${state}"`, { cause })
  }
}

function logHost(log: Log, host: HostFacts): void {
  log.info('Host', {
    kernel: host.kernel.release,
    cgroups: host.cgroup.version,
    apparmor: host.apparmor,
    selinux: host.selinux,
  })
}

/** Images that come with the node. One that cannot be read must not keep the node from starting. */
async function preload(images: Images, layouts: readonly string[], log: Log): Promise<void> {
  for (const layout of layouts) {
    try {
      for (const { id, repoTags } of await images.load({ path: layout, pin: true }))
        log.info('Preloaded', { layout, image: id, repoTags })
    } catch (error) {
      log.error('Cannot preload images', { layout: join(layout), why: messageOf(error) })
    }
  }
}

async function close(parts: Parts, server: CriServer, lock: { release(): void }): Promise<void> {
  parts.log.info('Stopping; containers go on')
  await Promise.all([server.close(closeGraceMs), parts.streaming.close(streamGraceMs)])
  // What does not end is undone by the next start, as after a crash.
  const aborted = parts.flights.abortAll(new RuntimeError('unavailable', 'The daemon is stopping'))
  await Promise.race([aborted, sleep(abortGraceMs)])
  await parts.nri.close()
  parts.watches.close()
  parts.spares.close()
  for (const client of parts.sandboxInits.values()) client.close()
  parts.stats.close()
  parts.network.close()
  await parts.images.close()
  await parts.storage.close()
  lock.release()
}
