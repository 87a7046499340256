/** The OCI runtimes of the configuration, by the handler name that a RuntimeClass uses. */

import { basename } from 'node:path'
import { SealedCopy } from '#linux/sealed-copy.ts'
import { messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { RuntimeHandlerConfig } from '../config/schema.ts'
import { runtimeCli } from './runtime-cli.ts'
import { type RuntimeFeatures, UNKNOWN_FEATURES } from './runtime-features.ts'
import { invalid, quoted } from './spec/refuse.ts'

export interface RuntimeHandler {
  readonly name: string
  /** The program. */
  readonly path: string
  /** Where it keeps its own state. */
  readonly root: string
  /** From the configuration: a file instead of the built-in RuntimeDefault profile. */
  readonly seccompProfile?: string | undefined
  readonly privilegedWithoutHostDevices?: boolean | undefined
  /** Annotations of its pods that count; see `annotations/allow.ts`. */
  readonly allowedAnnotations?: readonly string[] | undefined
  /** On which of a container's own processors further commands start. */
  readonly execCpuAffinity?: 'first' | 'last' | undefined
  readonly features: RuntimeFeatures
  /** From where commands are run in containers, when that is not `path`. */
  readonly execPath?: () => string
}

export interface RuntimeHandlers {
  /**
   * The handler of a new pod.
   * @param name empty: the default handler
   * @throws RuntimeError invalid-argument naming the handlers there are
   */
  offered(name: string): RuntimeHandler
  /** As `offered`, but of pods that exist: also a handler that the configuration has dropped since the daemon started. */
  resolve(name: string): RuntimeHandler
  list(): readonly RuntimeHandler[]
}

export interface HandlersConfig {
  readonly default: string
  readonly handlers: Readonly<Record<string, RuntimeHandlerConfig>>
}

export interface LiveHandlers extends RuntimeHandlers {
  /** Take these from now on; each is asked anew what it can do. */
  replace(handlers: HandlersConfig['handlers']): Promise<void>
}

/** Ask each runtime once what it can do. One that does not answer is kept: it may be installed later. */
export const openRuntimeHandlers = async (config: HandlersConfig, log: Log): Promise<LiveHandlers> => {
  let current = runtimeHandlers(config.default, await probeAll(config.handlers, log))
  return {
    offered: (name) => current.offered(name),
    resolve: (name) => current.resolve(name),
    list: () => current.list(),
    replace: async (handlers) => {
      const fresh = await probeAll(handlers, log)
      current = runtimeHandlers(config.default, fresh, current)
    },
  }
}

const probeAll = (handlers: HandlersConfig['handlers'], log: Log): Promise<RuntimeHandler[]> =>
  Promise.all(Object.entries(handlers).map(([name, program]) => probe({ name, ...program }, log)))

/**
 * A Map, so that a name such as "__proto__" finds nothing.
 * @param former what was there before, for pods made then
 */
export const runtimeHandlers = (
  defaultName: string,
  handlers: readonly RuntimeHandler[],
  former?: RuntimeHandlers,
): RuntimeHandlers => {
  const byName = new Map(handlers.map((handler) => [handler.name, handler]))
  const offered = (name: string): RuntimeHandler => {
    const handler = byName.get(name || defaultName)
    if (handler) return handler
    const known = handlers.map((each) => `"${each.name}"`).join(', ')
    throw invalid(`runtime_handler ${quoted(name || defaultName)} is not configured; there are ${known || 'none'}`)
  }
  return {
    offered,
    resolve: (name) => (former && !byName.has(name || defaultName) ? former.resolve(name) : offered(name)),
    list: () => handlers,
  }
}

const probe = async (program: Omit<RuntimeHandler, 'features'>, log: Log): Promise<RuntimeHandler> => {
  const handler = { ...program, ...sealed(program.path) }
  try {
    return { ...handler, features: (await runtimeCli(program).features()) ?? UNKNOWN_FEATURES }
  } catch (error) {
    log.warn('Cannot ask an OCI runtime for its features', { handler: program.name, why: messageOf(error) })
    return { ...handler, features: UNKNOWN_FEATURES }
  }
}

/** Those that would copy or mount themselves before each command; others may need to know where they lie. */
const sealing = new Set(['runc', 'crun'])

const sealed = (path: string): Pick<RuntimeHandler, 'execPath'> => {
  if (!sealing.has(basename(path))) return {}
  const copy = new SealedCopy(path)
  return { execPath: () => copy.path() }
}
