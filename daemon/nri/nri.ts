/**
 * The Node Resource Interface: plugins hear of what happens to pods and containers, and have a say in it. The use cases know
 * nothing of plugins: each tells of its step here and goes on with what comes back. Where nobody listens that is what it gave.
 */
import { join } from 'node:path'
import type { Log } from '#proto/log.ts'
import type { Config } from '../config/schema.ts'
import type { ContainerStore } from '../container/container.ts'
import type { Paths } from '../paths.ts'
import type { SandboxStore } from '../sandbox/sandbox.ts'
import { ContainerEvents, type ContainerEventsOptions } from './container-events.ts'
import { PluginWishes, type WishGranter } from './plugin-wishes.ts'
import { Plugins } from './plugins.ts'
import { PodEvents } from './pod-events.ts'
import { Reception } from './reception.ts'
import { Telling } from './telling.ts'

export interface Nri {
  readonly pods: PodEvents
  readonly containers: ContainerEvents
  /** Take plugins in, those that are installed first. @param granter does what they want done */
  open(granter: WishGranter): Promise<void>
  close(): Promise<void>
}

export interface NriOptions extends Pick<ContainerEventsOptions, 'readSpec'> {
  readonly config: Config
  readonly sandboxes: SandboxStore
  readonly containers: ContainerStore
  readonly paths: Paths
  readonly log: Log
}

const DEFAULT_STATE = '/run/cricket'
const DEFAULT_SOCKET = '/var/run/nri/nri.sock'

export function makeNri({ config, sandboxes, containers, paths, readSpec, ...options }: NriOptions): Nri {
  const log = options.log.child({ part: 'nri' })
  const { defaultValidator: rules, ...settings } = config.nri
  const timeouts = {
    registrationTimeoutMs: settings.registrationTimeoutSeconds * 1000,
    requestTimeoutMs: settings.requestTimeoutSeconds * 1000,
  }
  const wishes = new PluginWishes(log)
  const plugins: Plugins = new Plugins({
    log,
    synchronizeTimeoutMs: Math.max(timeouts.registrationTimeoutMs, timeouts.requestTimeoutMs),
    snapshot: async () => ({ pods: pods.snapshot(), containers: await own.snapshot() }),
    apply: async (updates, plugin) => void (await wishes.update(updates, plugin)),
  })
  const telling = new Telling(plugins, log)
  const pods: PodEvents = new PodEvents(telling, sandboxes, paths)
  const own: ContainerEvents = new ContainerEvents({ telling, pods, wishes, containers, rules, readSpec })
  const reception = new Reception({
    pluginDir: settings.pluginDir,
    pluginConfigDir: settings.pluginConfigDir,
    socket: settings.allowConnections ? socketOf(config) : undefined,
    plugins,
    log,
    host: {
      ...timeouts,
      log,
      claim: (identity, until) => plugins.claim(identity, until),
      update: (plugin, request) => wishes.serve(plugin, request),
    },
  })
  return {
    pods,
    containers: own,
    open: async (granter) => {
      wishes.grantedBy(granter)
      if (settings.enabled) await reception.open()
    },
    close: () => reception.close(),
  }
}

/** Where plugins look for it, unless this is one of several daemons on the node. */
const socketOf = ({ nri, state }: Config): string =>
  nri.socket ?? (state === DEFAULT_STATE ? DEFAULT_SOCKET : join(state, 'nri', 'nri.sock'))
