/**
 * The hooks that the directories of this node have for a container. They are read anew each time, so that a change counts for
 * the next container. A file that cannot be understood refuses every container: it may be what confines them.
 */

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import { readBounded } from '#linux/read-bounded.ts'
import { messageOf } from '#proto/errors.ts'
import { impossible } from '../spec/refuse.ts'
import { HOOK_STAGES, type OciHook, type OciHooks, type OciSpec } from '../spec/types.ts'
import { applies, type HookFile, type HookSubject, ociHook, parseHookFile } from './hook-file.ts'

const MAX_BYTES = 1024 * 1024

/** @throws RuntimeError failed-precondition naming the file or directory that cannot be used */
export const findHooks = (directories: readonly string[], subject: HookSubject): OciHooks => {
  const files = hookFiles(directories).filter((file) => applies(file, subject))
  const stages = HOOK_STAGES.flatMap((stage) => {
    const hooks: OciHook[] = files.filter(({ stages }) => stages.includes(stage)).map(ociHook)
    return hooks.length > 0 ? [[stage, hooks] as const] : []
  })
  return Object.fromEntries(stages)
}

/** In the order of their names; of two with one name that of the later directory. */
const hookFiles = (directories: readonly string[]): HookFile[] => {
  const paths = new Map<string, string>()
  for (const directory of directories) for (const name of namesIn(directory)) paths.set(name, join(directory, name))
  return [...paths.keys()].sort().map((name) => read(paths.get(name) ?? ''))
}

const namesIn = (directory: string): string[] => {
  try {
    return readdirSync(directory).filter((name) => name.endsWith('.json') && !name.startsWith('.'))
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return []
    throw impossible(`Cannot read the hooks directory "${directory}": ${messageOf(error)}`, error)
  }
}

const read = (path: string): HookFile => {
  try {
    return parseHookFile(readBounded(path, MAX_BYTES).toString('utf8'))
  } catch (error) {
    throw impossible(`Cannot use the OCI hook "${path}": ${messageOf(error)}`, error)
  }
}

/** The spec with these hooks after those that it has. */
export const withHooks = (spec: OciSpec, hooks: OciHooks): OciSpec => {
  if (Object.keys(hooks).length === 0) return spec
  const stages = HOOK_STAGES.flatMap((stage) => {
    const list = [...(spec.hooks?.[stage] ?? []), ...(hooks[stage] ?? [])]
    return list.length > 0 ? [[stage, list] as const] : []
  })
  return { ...spec, hooks: Object.fromEntries(stages) }
}
