/** ReopenContainerLog: after the kubelet moved the log file away; answered once the monitor writes to a new one. */
import { isKind, RuntimeError } from '#proto/errors.ts'
import type { Parts } from '../parts.ts'

/** @throws RuntimeError not-found, or failed-precondition when the container does not run; the file is then not made */
export async function reopenLog(
  { containers, watches }: Pick<Parts, 'containers' | 'watches'>,
  idOrPrefix: string,
): Promise<void> {
  const { record, status } = containers.require(idOrPrefix)
  const client = watches.client(record.id)
  if (status.state !== 'running' || !client) {
    throw notRunning(record.id, `it is ${status.state}`)
  }
  try {
    await client.reopenLog()
  } catch (error) {
    // The monitor ends with its container.
    throw isKind(error, 'unavailable') ? notRunning(record.id, 'it ended meanwhile', error) : error
  }
}

const notRunning = (id: string, why: string, cause?: unknown): RuntimeError =>
  new RuntimeError('failed-precondition', `Cannot reopen the log of container "${id}": ${why}`, { cause })
