/**
 * The life of one container as its monitor sees it.
 *
 *               create                runtime done              init ends
 *   launched ───────────► creating ───────────────► alive ───────────────► ending ──► ended, and the monitor exits
 *      │                     │
 *      │ shutdown, or the    └─ failed: the runtime's leftovers are removed, the failure is told, the monitor exits
 *      └─ daemon is gone: the monitor exits
 */
import type { ProcessIdentity } from '#linux/proc.ts'
import { type ExitRecord, exitRecordToWire, type InitProcess, type MonitorStatus } from '#proto/conmon.ts'
import type { ExitRecordFile } from './exit-record.ts'
import type { OomWatch } from './oom-watch.ts'
import type { ContainerStdio } from './stdio/stdio.ts'

export interface Alive {
  readonly init: ProcessIdentity
  readonly stdio: ContainerStdio
  readonly record: ExitRecordFile
  readonly oom: OomWatch | undefined
  readonly cgroup: string | undefined
}

export type Life =
  | { readonly state: 'launched' }
  | { readonly state: 'creating' }
  | ({ readonly state: 'alive'; readonly starting: boolean } & Alive)
  | { readonly state: 'ending'; readonly init: ProcessIdentity }
  | { readonly state: 'ended'; readonly record: ExitRecord }

export interface Counters {
  readonly bytesLogged: number
  readonly bytesLost: number
}

/** What a client is told of it. @param startedAtUnixNs when the runtime's start was done; undefined before */
export const lifeToWire = (life: Life, counters: Counters, startedAtUnixNs: bigint | undefined): MonitorStatus => {
  switch (life.state) {
    case 'launched':
    case 'creating':
      return { state: life.state, ...counters }
    case 'alive':
      return { state: 'alive', init: initToWire(life.init), ...startedFields(startedAtUnixNs), ...counters }
    case 'ending':
      return { state: 'ending', init: initToWire(life.init), ...counters }
    case 'ended':
      return { state: 'ended', record: exitRecordToWire(life.record), ...counters }
  }
}

const startedFields = (at: bigint | undefined) => ({
  started: at !== undefined,
  ...(at !== undefined && { startedAtUnixNs: String(at) }),
})

export const initToWire = ({ pid, startTime }: ProcessIdentity): InitProcess => ({ pid, startTime: String(startTime) })
