/** What an OCI runtime printed when it failed, made fit for an error message. Part of it may come from the container. */
import { isErrno } from '#linux/errno.ts'
import type { CommandExit } from '#linux/run-command.ts'
import { RuntimeError } from '#proto/errors.ts'

const MAX_BYTES = 4096

/** Printable text of at most 4 KiB; the end of it, which is where a program says what went wrong. */
export const sanitise = (output: Buffer): string => {
  const text = output
    .subarray(-MAX_BYTES)
    .toString('utf8')
    .replace(/\u001b\[[0-9;?]*[ -/]*[@-~]/g, '')
    .replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\ufffd]+/g, ' ')
    .trim()
  return messageOfLog(text)
}

/** runc repeats its message as a logrus line: time="…" level=error msg="…". The message is what counts. */
const messageOfLog = (text: string): string => {
  const message = /\blevel=(?:error|fatal) msg=("(?:[^"\\]|\\.)*")/.exec(text)?.[1]
  if (message === undefined) return text
  try {
    const parsed: unknown = JSON.parse(message)
    return typeof parsed === 'string' ? parsed : text
  } catch {
    return text
  }
}

export const describeExit = (exit: CommandExit): string =>
  exit.how === 'exited' ? `exit code ${exit.code}` : `signal ${exit.signal}`

/** What to throw when a runtime could not be started: failed-precondition when the program is not there or none. */
export const cannotRun = (path: string, cause: unknown): unknown =>
  isErrno(cause, 'ENOENT', 'EACCES', 'ENOEXEC', 'ENOTDIR')
    ? new RuntimeError('failed-precondition', `The OCI runtime "${path}" cannot be run: ${cause.code}`, { cause })
    : cause
