/**
 * Plugins outlive a daemon that is killed. An ADD that goes on while, or after, the next daemon runs DEL would leave an address
 * with nobody, so plugins of the life before are ended first; what they did not finish is what DEL is for.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'

/** Which calls for a sandbox may still be running and must not. */
export type Unfinished = ReadonlyMap<string, readonly ('ADD' | 'DEL')[]>

const environOf = (pid: string): Map<string, string> | undefined => {
  try {
    const entries = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0')
    return new Map(entries.map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]))
  } catch {
    // It has ended, or is a kernel thread.
    return undefined
  }
}

/** Kills plugins, and what they started, that run for one of these calls. They carry the call in their environment. */
export const endOrphans = (unfinished: Unfinished, log: Log): void => {
  if (unfinished.size === 0) return
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    const environ = environOf(pid)
    const sandbox = environ?.get('CNI_CONTAINERID') ?? ''
    const verb = environ?.get('CNI_COMMAND')
    if (!unfinished.get(sandbox)?.some((each) => each === verb)) continue
    log.warn('End a CNI plugin that an earlier daemon started', { sandbox, verb, pid: Number(pid) })
    try {
      process.kill(Number(pid), 'SIGKILL')
    } catch (error) {
      log.debug('The plugin has ended by itself', { pid: Number(pid), why: messageOf(error) })
    }
  }
}
