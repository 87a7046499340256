/** A seccomp profile whose refusals are told to the daemon, which refuses in the kernel's place. */
import type { OciSeccomp, OciSyscallRule } from './types.ts'

const EPERM = 1
const REFUSALS = new Set(['SCMP_ACT_ERRNO', 'SCMP_ACT_KILL', 'SCMP_ACT_KILL_THREAD', 'SCMP_ACT_KILL_PROCESS'])

/** Rules that answer with another error mean it: they stay, and so does the action for calls that the profile does not name. */
const isRefusal = ({ action, errnoRet }: OciSyscallRule): boolean =>
  REFUSALS.has(action) && (errnoRet === undefined || errnoRet === EPERM)

/** @param listenerPath the socket on which the OCI runtime hands over the filter's listener */
export const notifying = (profile: OciSeccomp, listenerPath: string): OciSeccomp => ({
  ...profile,
  listenerPath,
  syscalls: profile.syscalls.map((rule) => {
    if (!isRefusal(rule)) return rule
    const { errnoRet: _, ...rest } = rule
    return { ...rest, action: 'SCMP_ACT_NOTIFY' }
  }),
})
