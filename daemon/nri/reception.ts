/** Where plugins come from: those that are installed are started, and others connect. Each ends by itself, and alone. */
import type { Duplex } from 'node:stream'
import { type ConnectedProgram, startConnected } from '#linux/connected-program.ts'
import { messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { type InstalledPlugin, installedPlugins } from './installed-plugins.ts'
import { meetPlugin, type Newcomer, type PluginHost } from './meet-plugin.ts'
import { type Plugin, pluginName } from './plugin.ts'
import { openPluginSocket, type PluginSocket } from './plugin-socket.ts'
import type { Plugins } from './plugins.ts'

export interface ReceptionOptions {
  readonly pluginDir: string
  readonly pluginConfigDir: string
  /** Without it nobody can connect. */
  readonly socket: string | undefined
  readonly host: PluginHost
  readonly plugins: Plugins
  readonly log: Log
}

/** Connections at once, those that have not registered yet included. */
const MAX_CONNECTIONS = 64
/** What a plugin that we have started gets to end. */
const END_GRACE_MS = 1_000
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

export class Reception {
  readonly #options: ReceptionOptions
  readonly #programs = new Set<ConnectedProgram>()
  #socket: PluginSocket | undefined
  #connections = 0

  constructor(options: ReceptionOptions) {
    this.#options = options
  }

  /** Returns when the installed plugins are there, or have failed to be; trouble is told and keeps nobody from starting. */
  async open(): Promise<void> {
    const { pluginDir, pluginConfigDir, socket, log } = this.#options
    try {
      const installed = await installedPlugins(pluginDir, pluginConfigDir, log)
      await Promise.all(installed.map((plugin) => this.#start(plugin)))
      if (socket !== undefined) this.#socket = await openPluginSocket(socket, (one) => this.#accept(one), log)
    } catch (error) {
      log.error('No plugins can connect', { socket, why: messageOf(error) })
    }
  }

  async close(): Promise<void> {
    this.#socket?.close()
    this.#options.plugins.dismissAll('the daemon is stopping')
    await Promise.all([...this.#programs].map((program) => program.end(END_GRACE_MS)))
  }

  #accept(socket: Duplex): void {
    if (this.#connections >= MAX_CONNECTIONS) {
      this.#options.log.warn('Too many plugins: turned one away', { limit: MAX_CONNECTIONS })
      socket.on('error', () => {})
      socket.destroy()
      return
    }
    this.#connections++
    socket.once('close', () => {
      this.#connections--
    })
    void this.#welcome({ socket, config: '' }, 'one that connected')
  }

  /** Not started again when it ends, as in the reference: it may end because of what this node is. */
  async #start({ path, identity, config }: InstalledPlugin): Promise<void> {
    const { log } = this.#options
    const name = pluginName(identity)
    try {
      const program = await startConnected(path, {
        PATH: DEFAULT_PATH,
        NRI_PLUGIN_NAME: identity.base,
        NRI_PLUGIN_IDX: identity.index,
        NRI_PLUGIN_SOCKET: '3',
      })
      this.#programs.add(program)
      void program.ended.then((how) => {
        this.#programs.delete(program)
        log.warn('An installed plugin has ended', { plugin: name, how })
      })
      const plugin = await this.#welcome({ socket: program.socket, identity, config }, name)
      const gone = plugin?.gone ?? Promise.resolve()
      void gone.then(() => program.end(END_GRACE_MS))
    } catch (error) {
      log.error('Cannot start an installed plugin', { plugin: name, path, why: messageOf(error) })
    }
  }

  async #welcome(newcomer: Newcomer, who: string): Promise<Plugin | undefined> {
    const { host, plugins, log } = this.#options
    try {
      const plugin = await meetPlugin(newcomer, host)
      try {
        await plugins.join(plugin)
      } catch (error) {
        plugin.dismiss('it could not be told what there is')
        throw error
      }
      return plugin
    } catch (error) {
      log.error('Cannot take in a plugin', { plugin: who, why: messageOf(error) })
      return undefined
    }
  }
}
