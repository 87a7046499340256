/** The log of a container, as its options ask for it: a file, the journal, both, or none. */
import type { MonitorOptions } from '#proto/conmon.ts'
import type { Reactor } from '../reactor.ts'
import type { Report } from '../report.ts'
import { ContainerLog } from './container-log.ts'
import { Disk } from './disk.ts'

interface LogParts {
  readonly reactor: Reactor
  readonly report: Report
}

/** What the options ask for; undefined when nothing is to be kept. */
export async function openLog(
  options: MonitorOptions,
  { reactor, report }: LogParts,
): Promise<ContainerLog | undefined> {
  const { id, logPath, logDirectory, journal = false, journalFields = {} } = options
  if (logPath === undefined && !journal) return undefined
  const target = {
    ...(logPath !== undefined && { path: logPath }),
    ...(logDirectory !== undefined && { directory: logDirectory }),
    ...(journal && {
      journal: await openJournal({ CONTAINER_ID_FULL: id, SYSLOG_IDENTIFIER: 'cricket', ...journalFields }),
    }),
  }
  const disk = new Disk(reactor, (error) => report(`unexpected: ${String(error)}`))
  return ContainerLog.open(target, disk, (error) => report(`log: ${error}`))
}

/** Loaded when it is needed: few containers log there. */
async function openJournal(fields: Record<string, string>) {
  const { Journal } = await import('./journal.ts')
  return new Journal(fields)
}
