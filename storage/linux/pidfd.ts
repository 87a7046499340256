/** Signals that cannot hit a stranger: a pidfd stays with its process even when the pid is given away again. */
import { closeSync } from 'node:fs'
import { isAlive, type ProcessIdentity } from './proc.ts'
import { rawSys, sys, sysError } from './sys.ts'

/** Opens a pidfd (close-on-exec; readable once the process has ended). Throws ESRCH when there is no such process. */
export const openPidfd = (pid: number): number => sys('pidfd_open', pid, 0)

/** Sends a signal through a pidfd. Returns false when the process has ended and been reaped. */
export const sendPidfdSignal = (pidfd: number, signal: number): boolean => {
  const result = rawSys('pidfd_send_signal', pidfd, signal, null, 0)
  if (result >= 0) return true
  const error = sysError(result, 'pidfd_send_signal')
  if (error.code === 'ESRCH') return false
  throw error
}

/** Sends a signal to exactly this process. Returns false when it is gone, a zombie included. */
export const signalProcess = (identity: ProcessIdentity, signal: number): boolean => {
  const pidfd = rawSys('pidfd_open', identity.pid, 0)
  if (pidfd < 0) {
    const error = sysError(pidfd, 'pidfd_open')
    if (error.code === 'ESRCH') return false
    throw error
  }
  try {
    // Checked after opening: whoever has the pid now is whom the descriptor holds, or is newer and fails the check.
    return isAlive(identity) && sendPidfdSignal(pidfd, signal)
  } finally {
    closeSync(pidfd)
  }
}
