/** From what a failed runtime wrote to one message fit for an event: the right line, clean, short. Pure. */
import type { Failure, FailureKind } from '#proto/conmon.ts'

export const maxComplaintBytes = 4 * 1024

/**
 * Runtimes have one exit code for everything: their words are all there is to tell the user's mistake (a command that
 * cannot be executed) from ours.
 */
const CANNOT_EXECUTE = [
  /executable file .*not found/i,
  /\bexec(ve)?\b.*: (no such file or directory|permission denied|not a directory|is a directory|exec format error)/i,
  /open executable: (No such file or directory|Permission denied)/i,
  /mkdir .* to working directory|chdir to cwd .*(no such file|not a directory|permission denied)/i,
]

/** @param log the runtime's log file (JSON lines) @param stderr what it wrote besides */
export function runtimeFailure(what: string, log: Buffer, stderr: Buffer, ending: string): Failure {
  const said = lastError(log.toString()) ?? clean(stderr.toString())
  const message = bounded(`${what}: ${said === '' ? ending : said}`)
  return { kind: kindOf(said), message }
}

const kindOf = (said: string): FailureKind =>
  CANNOT_EXECUTE.some((pattern) => pattern.test(said)) ? 'failed-precondition' : 'internal'

/** The last line of level error or worse; runtimes may warn afterwards. */
function lastError(log: string): string | undefined {
  for (const line of log.split('\n').reverse()) {
    const entry = parsed(line)
    if (entry !== undefined && /^(error|fatal|panic)$/.test(entry.level)) return clean(entry.message)
  }
  return undefined
}

function parsed(line: string): { level: string; message: string } | undefined {
  try {
    const value: unknown = JSON.parse(line)
    if (typeof value !== 'object' || value === null || !('msg' in value) || !('level' in value)) return undefined
    return { level: String(value.level), message: String(value.msg) }
  } catch {
    return undefined
  }
}

/** One line without terminal sequences and other characters that do things to who reads them. */
export const clean = (said: string): string =>
  said
    .replace(/\u001b\[[0-9;?]*[ -/]*[@-~]/g, '')
    .replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]+/g, ' ')
    .trim()

function bounded(message: string): string {
  const bytes = Buffer.from(message)
  if (bytes.length <= maxComplaintBytes) return message
  // A character cut in two becomes a replacement character, which is longer than what it replaces.
  return `${bytes
    .subarray(0, maxComplaintBytes - 8)
    .toString()
    .replace(/\ufffd$/, '')}…`
}
