/** Log records for tests. */
import { rawSys } from '#linux/sys.ts'
import { CriLog, prefixBytes, tagOffset } from '../cri-log.ts'
import type { Steps } from '../disk.ts'

/** One batch with the lines of a text, which must fit. */
export function recordsOf(text: string): { batch: Buffer; content: number } {
  const batches: { batch: Buffer; content: number }[] = []
  const log = new CriLog((batch, content) => batches.push({ batch: Buffer.from(batch), content }) === 0)
  log.setTime(0, 0)
  log.add('stdout', Buffer.from(text))
  log.flush()
  const [only] = batches
  if (only === undefined || batches.length !== 1) throw new Error(`text makes ${batches.length} batches`)
  return only
}

/** The lines (and pieces of lines) in a log file; throws when it ends within a record. */
export function parseRecords(bytes: Buffer): string[] {
  const text = bytes.toString('latin1')
  if (text !== '' && !text.endsWith('\n')) throw new Error('the file ends within a record')
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => line.slice(prefixBytes) + (line[tagOffset] === 'F' ? '\n' : ''))
}

/** Does a job of the disk at once, on this thread. */
export function now<T>(job: Steps<T>): T {
  let step = job.next()
  while (step.done !== true) step = job.next(rawSys(...step.value))
  return step.value
}
