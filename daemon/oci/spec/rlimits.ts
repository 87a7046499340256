/** Default resource limits of processes. The CRI has no field for them: they come from the configuration. */
import type { OciRlimit } from './types.ts'

const NAMES = new Set(
  'as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack'.split(' '),
)

const FORM = /^([a-z]+)=(\d{1,15}|unlimited)(?::(\d{1,15}|unlimited))?$/

const value = (text: string): number => (text === 'unlimited' ? Number.POSITIVE_INFINITY : Number(text))

/** "nofile=1024:524288": soft and hard; one value is both. undefined when the text has not that form. */
export const parseRlimit = (text: string): OciRlimit | undefined => {
  const [, name = '', soft = '', hard = soft] = FORM.exec(text) ?? []
  const limit = { type: `RLIMIT_${name.toUpperCase()}`, soft: value(soft), hard: value(hard) }
  return NAMES.has(name) && limit.soft <= limit.hard ? limit : undefined
}

/**
 * No more than the daemon can give.
 * @param ceilings its own hard limits, where it lacks CAP_SYS_RESOURCE
 */
export const clampRlimits = (
  wanted: readonly OciRlimit[],
  ceilings: Readonly<Record<string, number>> | undefined,
): OciRlimit[] =>
  wanted.map(({ type, soft, hard }) => {
    const ceiling = ceilings?.[type] ?? Number.POSITIVE_INFINITY
    return { type, soft: Math.min(soft, ceiling), hard: Math.min(hard, ceiling) }
  })

/** The hard limits in the text of /proc/<pid>/limits, by the names of the OCI specification. */
export const hardLimits = (text: string): Record<string, number> => {
  const limits: Record<string, number> = {}
  for (const [label, type] of LABELS) {
    const hard = new RegExp(`^Max ${label}\\s+\\S+\\s+(\\S+)`, 'm').exec(text)?.[1]
    if (hard !== undefined) limits[type] = value(hard)
  }
  return limits
}

const LABELS: readonly (readonly [string, string])[] = [
  ['cpu time', 'RLIMIT_CPU'],
  ['file size', 'RLIMIT_FSIZE'],
  ['data size', 'RLIMIT_DATA'],
  ['stack size', 'RLIMIT_STACK'],
  ['core file size', 'RLIMIT_CORE'],
  ['resident set', 'RLIMIT_RSS'],
  ['processes', 'RLIMIT_NPROC'],
  ['open files', 'RLIMIT_NOFILE'],
  ['locked memory', 'RLIMIT_MEMLOCK'],
  ['address space', 'RLIMIT_AS'],
  ['file locks', 'RLIMIT_LOCKS'],
  ['pending signals', 'RLIMIT_SIGPENDING'],
  ['msgqueue size', 'RLIMIT_MSGQUEUE'],
  ['nice priority', 'RLIMIT_NICE'],
  ['realtime priority', 'RLIMIT_RTPRIO'],
  ['realtime timeout', 'RLIMIT_RTTIME'],
]
