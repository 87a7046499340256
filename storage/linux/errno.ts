/** Errors of system calls, shaped like Node's own (`code`, `errno`, `syscall`, `path`), so that callers test one way for both. */
import { constants } from 'node:os'

/** A system call that failed. `errno` is negative, as in Node's errors. */
export class LinuxError extends Error {
  readonly code: string
  readonly errno: number
  readonly syscall: string
  readonly path?: string

  constructor(code: string, syscall: string, path?: string, detail?: string) {
    super(
      `${syscall}${path === undefined ? '' : ` on "${path}"`} failed with ${code}${detail === undefined ? '' : `: ${detail}`}`,
    )
    this.name = 'LinuxError'
    this.code = code
    this.errno = -(errnoNumber(code) ?? 0)
    this.syscall = syscall
    if (path !== undefined) this.path = path
  }
}

// Linux has these names; Node's table either lacks them or spells the number's second name.
const MORE: Record<string, number> = { ENOTBLK: 15, EBADFD: 77, EUCLEAN: 117, ENOKEY: 126, EHWPOISON: 133 }
const SAME: Record<string, string> = { EWOULDBLOCK: 'EAGAIN', EOPNOTSUPP: 'ENOTSUP', EDEADLOCK: 'EDEADLK' }

const errnoNumber = (name: string): number | undefined =>
  new Map(Object.entries(constants.errno)).get(name) ?? MORE[name]

let names: Map<number, string> | undefined

/** The name of an errno, positive or negative: `errnoName(2)` is "ENOENT". Unknown ones read "ERRNO<n>". */
export const errnoName = (errno: number): string => {
  names ??= new Map(
    [...Object.entries(MORE), ...Object.entries(constants.errno)].flatMap(([name, number]) =>
      name in SAME ? [] : [[number, name] as const],
    ),
  )
  const number = Math.abs(errno)
  return names.get(number) ?? `ERRNO${number}`
}

/** Whether `error` is a system error (Node's or ours) with one of these codes. EWOULDBLOCK and EAGAIN are the same, as in the kernel. */
export const isErrno = (error: unknown, ...codes: [string, ...string[]]): error is Error & { code: string } => {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return false
  const code = error.code
  return codes.some((wanted) => (SAME[wanted] ?? wanted) === (SAME[code] ?? code))
}

/** The code of a system error (Node's or ours), such as "ECONNREFUSED"; undefined for anything else. */
export const errnoOf = (error: unknown): string | undefined =>
  error instanceof Error && 'errno' in error && 'code' in error && typeof error.code === 'string'
    ? error.code
    : undefined
