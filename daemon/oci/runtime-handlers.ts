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
  readonly features: RuntimeFeatures
  /** From where commands are run in containers, when that is not `path`. */
  readonly execPath?: () => string
}

export interface RuntimeHandlers {
  /**
   * @param name empty: the default handler
   * @throws RuntimeError invalid-argument naming the handlers there are
   */
  resolve(name: string): RuntimeHandler
  list(): readonly RuntimeHandler[]
}

export interface HandlersConfig {
  readonly default: string
  readonly handlers: Readonly<Record<string, RuntimeHandlerConfig>>
}

/** Ask each runtime once what it can do. One that does not answer is kept: it may be installed later. */
export const openRuntimeHandlers = async (config: HandlersConfig, log: Log): Promise<RuntimeHandlers> => {
  const entries = Object.entries(config.handlers)
  const handlers = await Promise.all(entries.map(([name, program]) => probe({ name, ...program }, log)))
  return runtimeHandlers(config.default, handlers)
}

/** A Map, so that a name such as "__proto__" finds nothing. */
export const runtimeHandlers = (defaultName: string, handlers: readonly RuntimeHandler[]): RuntimeHandlers => {
  const byName = new Map(handlers.map((handler) => [handler.name, handler]))
  return {
    resolve: (name) => {
      const handler = byName.get(name || defaultName)
      if (handler) return handler
      const known = handlers.map((each) => `"${each.name}"`).join(', ')
      throw invalid(`runtime_handler ${quoted(name || defaultName)} is not configured; there are ${known || 'none'}`)
    },
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
