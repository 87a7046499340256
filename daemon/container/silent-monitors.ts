/**
 * Monitors that neither answer nor end (stopped, or stuck in the kernel). Their containers go on and may be stopped like
 * others; once a container is dead and its monitor has not said so for a while, the monitor is as good as lost and is killed.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ProcessIdentity } from '#linux/proc.ts'
import { isKind } from '#proto/errors.ts'
import type { MonitorClient } from '../monitor/monitor-client.ts'
import type { Parts } from '../parts.ts'
import type { Container } from './container.ts'
import { recordExit, type WatchNeeds, watchExit } from './watch-exit.ts'

const { SIGKILL } = constants.signals
const tryAgainMs = 2_000
/** Longer than a monitor takes to empty a cgroup, drain the output and write the exit record. */
const silentMs = 12_000

/** Until the monitor answers, or its container is dead: then the monitor is killed and the end recorded. */
export async function watchFromAfar(
  needs: WatchNeeds,
  container: Container,
  connect: () => Promise<MonitorClient>,
): Promise<void> {
  const { id } = container.record
  for (;;) {
    await sleep(tryAgainMs, undefined, { ref: false })
    try {
      watchExit(needs, container, await connect())
      break
    } catch (error) {
      if (isKind(error, 'unavailable')) return recordExit(needs, container)
      const { status } = container
      if ('init' in status && status.init && !needs.linux.isAlive(status.init))
        killMonitorOf(needs, needs.paths.container(id).dir)
    }
  }
  return needs.watches.ended(id)
}

/** Found by its command line, as it has not told us its pid. */
function killMonitorOf({ linux, log }: Pick<Parts, 'linux' | 'log'>, dir: string): void {
  for (const name of readdirSync('/proc')) {
    const identity = /^\d+$/.test(name) ? linux.processIdentity(Number(name)) : undefined
    if (!identity || !commandLine(identity.pid).includes(dir)) continue
    log.error('Killing a monitor that does not answer', { dir, pid: identity.pid })
    linux.signalProcess(identity, SIGKILL)
  }
}

function commandLine(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
  } catch {
    return []
  }
}

type SilenceNeeds = Pick<Parts, 'containers' | 'linux' | 'log' | 'sandboxes' | 'sandboxInits' | 'slowLooks' | 'watches'>

interface Watched {
  readonly init: ProcessIdentity
  readonly client: MonitorClient
}

/** Looks every now and then, and again where one is suspected, for monitors that owe word of an end. @returns how to end the looking */
export function endSilentMonitors(needs: SilenceNeeds): () => void {
  let suspects = new Set<MonitorClient>()
  const look = () => {
    const silent = watched(needs).filter(({ init }) => !needs.linux.isAlive(init))
    for (const { client } of silent.filter(({ client }) => suspects.has(client))) {
      // The connection is still open, so the pid is still the monitor's.
      const identity = needs.linux.processIdentity(client.pid)
      needs.log.error('Killing a monitor that does not tell of the end of its container', { pid: client.pid })
      if (identity) needs.linux.signalProcess(identity, SIGKILL)
    }
    suspects = new Set(silent.map(({ client }) => client))
    return suspects.size > 0
  }
  return needs.slowLooks.every(silentMs)(look)
}

function watched({ containers, sandboxes, sandboxInits, watches }: SilenceNeeds): Watched[] {
  const found: Watched[] = []
  for (const { record, status } of containers.all()) {
    const client = watches.client(record.id)
    if (client && 'init' in status && status.init) found.push({ init: status.init, client })
  }
  for (const [id, client] of sandboxInits) {
    const status = sandboxes.get(id)?.status
    if (status?.state === 'ready' && status.init) found.push({ init: status.init, client })
  }
  return found
}
