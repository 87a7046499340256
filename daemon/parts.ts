/** The parts of a daemon that use cases are handed. Built once in `daemon.ts`; a use case names the few it needs. */
import type { Images } from '#image/image-store.ts'
import type { AdoptedChildren } from '#linux/adopted-children.ts'
import type { HostFacts } from '#linux/host-facts.ts'
import type { Linux } from '#linux/linux.ts'
import type { Log } from '#proto/log.ts'
import type { KeyedLock } from '#storage/keyed-lock.ts'
import type { SingleFlight } from '#storage/single-flight.ts'
import type { SlowLooks } from '#storage/slow-looks.ts'
import type { Storage } from '#storage/storage.ts'
import type { Config } from './config/schema.ts'
import type { ContainerStore } from './container/container.ts'
import type { StopRaces } from './container/stop-races.ts'
import type { Watches } from './container/watches.ts'
import type { CpuIsolation } from './cpu-isolation/cpu-isolation.ts'
import type { EventLoopLag } from './event-loop-lag.ts'
import type { OrderedClock } from './events/ordered-clock.ts'
import type { SandboxId } from './ids.ts'
import type { MonitorClient } from './monitor/monitor-client.ts'
import type { SpareMonitors } from './monitor/spare-monitors.ts'
import type { MonitorProgram } from './monitor/spawn-monitor.ts'
import type { PodNetwork } from './network/pod-network.ts'
import type { Nri } from './nri/nri.ts'
import type { RuntimeHandlers } from './oci/runtime-handlers.ts'
import type { SpecHost } from './oci/spec/host.ts'
import type { Operations } from './operations/operations.ts'
import type { Paths } from './paths.ts'
import type { Swept } from './recovery/sweep.ts'
import type { SandboxStore } from './sandbox/sandbox.ts'
import type { SeccompNotifier } from './seccomp/notifier.ts'
import type { Stats } from './stats/stats.ts'
import type { StreamingServer } from './streaming/open-server.ts'
import type { Forwards } from './streaming/sessions/port-forward.ts'

export interface Parts {
  readonly config: Config
  readonly log: Log
  readonly linux: Linux
  /** Processes that became ours when their parent ended. */
  readonly children: AdoptedChildren
  readonly host: HostFacts
  /** The same host as the OCI spec parts see it. */
  readonly specHost: SpecHost
  readonly bootId: string
  readonly paths: Paths
  readonly storage: Storage
  readonly images: Images
  readonly network: PodNetwork
  readonly handlers: RuntimeHandlers
  readonly monitorProgram: MonitorProgram
  /** Monitors that were started in advance. */
  readonly spares: SpareMonitors
  readonly sandboxes: SandboxStore
  readonly containers: ContainerStore
  /** Creations in flight by key: a repeated request joins the running one (design D8). */
  readonly flights: SingleFlight<string>
  /** What goes on, for operators. */
  readonly operations: Operations
  /** One change at a time per sandbox or container id. */
  readonly locks: KeyedLock
  /** The live monitors, and who waits for an exit. */
  readonly watches: Watches
  /** The monitors of the init processes of pods that share a PID namespace. */
  readonly sandboxInits: Map<SandboxId, MonitorClient>
  /** Tells of refused system calls. */
  readonly seccompNotifier: SeccompNotifier
  /** Plugins that hear of what happens, and have a say in it. */
  readonly nri: Nri
  /** What containers with processors of their own ask of the node. */
  readonly isolation: CpuIsolation
  /** The connections that clients have to ports of pods. */
  readonly forwards: Forwards
  /** Where clients get what Exec, Attach and PortForward promise them. */
  readonly streaming: StreamingServer
  /** The stops in progress, which later callers can only shorten. */
  readonly stops: StopRaces
  /** The order in which clients are told what is. */
  readonly eventClock: OrderedClock
  /** How long nobody is answered while images come. */
  readonly eventLoopLag: EventLoopLag
  /** What calls bring about besides their answers. */
  readonly slowLooks: SlowLooks
  /** What statistics remember between two questions. */
  readonly stats: Stats
  readonly swept: Swept
}
