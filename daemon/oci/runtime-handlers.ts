/** The OCI runtimes of the configuration, by the handler name that a RuntimeClass uses; and those that pods were made with. */

import { accessSync, constants } from 'node:fs'
import { basename } from 'node:path'
import * as z from 'zod'
import { SealedCopy } from '#linux/sealed-copy.ts'
import { messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { RuntimeHandlerConfig } from '../config/runtimes.ts'
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
  /** How long it may take to create a container before it is killed. */
  readonly createTimeoutSeconds: number
  readonly features: RuntimeFeatures
  /** From where commands are run in containers, when that is not `path`. */
  readonly execPath?: () => string
}

/** The runtime that a pod was made with, as its record keeps it: the configuration may change under the pod. */
export const RuntimeUsed = z.object({ handler: z.string(), path: z.string(), root: z.string() })
export type RuntimeUsed = z.infer<typeof RuntimeUsed>

/** What a record says of its runtime. */
export interface MadeBy {
  /** The name in the request. */
  readonly runtimeHandler: string
  /** Absent in records of the first versions. */
  readonly runtime?: RuntimeUsed | undefined
}

export interface RuntimeHandlers {
  /**
   * The handler of a new pod.
   * @param name empty: the default handler
   * @throws RuntimeError invalid-argument naming the handlers there are
   */
  offered(name: string): RuntimeHandler
  /**
   * The handler of a pod that exists, whatever became of the configuration: the program and root directory that it was made
   * with; another program of the same handler only when the first one is gone.
   * @throws RuntimeError invalid-argument for a record of the first versions whose handler is not configured any more
   */
  of(made: MadeBy): RuntimeHandler
  list(): readonly RuntimeHandler[]
  /** Also those that a reload has dropped or changed. */
  known(): readonly RuntimeHandler[]
}

export const runtimeUsed = ({ name, path, root }: RuntimeHandler): RuntimeUsed => ({ handler: name, path, root })

export interface HandlersConfig {
  readonly default: string
  readonly handlers: Readonly<Record<string, RuntimeHandlerConfig>>
}

export interface LiveHandlers extends RuntimeHandlers {
  /** Take these from now on; each is asked anew what it can do. */
  replace(config: HandlersConfig): Promise<void>
}

/** Ask each runtime once what it can do. One that does not answer is kept: it may be installed later. */
export const openRuntimeHandlers = async (config: HandlersConfig, log: Log): Promise<LiveHandlers> => {
  let current = runtimeHandlers(config.default, await probeAll(config.handlers, log))
  return {
    offered: (name) => current.offered(name),
    of: (made) => current.of(made),
    list: () => current.list(),
    known: () => current.known(),
    replace: async (next) => {
      const fresh = await probeAll(next.handlers, log)
      current = runtimeHandlers(next.default, fresh, current)
    },
  }
}

const probeAll = (handlers: HandlersConfig['handlers'], log: Log): Promise<RuntimeHandler[]> =>
  Promise.all(
    Object.entries(handlers).map(([name, { createTimeoutSeconds = CREATE_TIMEOUT_SECONDS, ...program }]) =>
      probe({ name, createTimeoutSeconds, ...program }, log),
    ),
  )

/** As in CRI-O. */
const CREATE_TIMEOUT_SECONDS = 240

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
  const dropped = former?.known().filter((old) => !handlers.some((now) => isSame(now, runtimeUsed(old)))) ?? []
  const known = [...handlers, ...dropped]
  // Those that named none were made with the default handler of the daemon's start.
  const isFormer = (name: string) => former !== undefined && (name === '' || !byName.has(name))
  return {
    offered,
    of: (made) => {
      const { runtimeHandler, runtime } = made
      if (!runtime) return former && isFormer(runtimeHandler) ? former.of(made) : offered(runtimeHandler)
      return known.find((each) => isSame(each, runtime)) ?? remembered(runtime, byName.get(runtime.handler))
    },
    list: () => handlers,
    known: () => known,
  }
}

const isSame = ({ name, path, root }: RuntimeHandler, used: RuntimeUsed): boolean =>
  name === used.handler && path === used.path && root === used.root

/** Of a pod that outlived the configuration it was made by. */
const remembered = ({ handler, path, root }: RuntimeUsed, now: RuntimeHandler | undefined): RuntimeHandler => {
  const { execPath: _, ...policy } = now ?? { createTimeoutSeconds: CREATE_TIMEOUT_SECONDS, features: UNKNOWN_FEATURES }
  return { ...policy, name: handler, path: now && !isProgram(path) ? now.path : path, root }
}

const isProgram = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
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
