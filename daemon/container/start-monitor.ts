/** Start the monitor of a container that is being made, and tell it what the container's configuration means for it. */
import type { RestoreOptions } from '#proto/conmon.ts'
import { launchMonitor, placement } from '../monitor/launch-monitor.ts'
import type { MonitorClient } from '../monitor/monitor-client.ts'
import type { RuntimeHandler } from '../oci/runtime-handlers.ts'
import { namespaceModes } from '../oci/spec/namespaces.ts'
import type { Parts } from '../parts.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'
import { configuredRlimits } from './configured.ts'
import type { Container, ContainerRecord } from './container.ts'

export type MonitorNeeds = Pick<Parts, 'config' | 'linux' | 'log' | 'monitorProgram' | 'paths' | 'spares'>

interface Watched {
  readonly sandbox: Sandbox
  readonly container: Container
  readonly handler: RuntimeHandler
  /** For a container that is made from a checkpoint. */
  readonly restore?: RestoreOptions
}

export function startMonitor(
  needs: MonitorNeeds,
  { sandbox, container, handler, restore }: Watched,
): Promise<MonitorClient> {
  const { record } = container
  const { config } = record
  return launchMonitor({
    program: needs.monitorProgram,
    dir: needs.paths.container(record.id).dir,
    linux: needs.linux,
    log: needs.log.child({ container: record.id }),
    spares: needs.spares,
    options: {
      id: record.id,
      cookie: record.cookie,
      runtime: { path: handler.path, root: handler.root, systemdCgroup: needs.config.cgroupDriver === 'systemd' },
      terminal: config.tty,
      stdin: config.stdin,
      stdinOnce: config.stdinOnce,
      ...(record.logPath && { logPath: record.logPath, logDirectory: sandbox.record.config.logDirectory }),
      // The monitor's own limit, which its engine raises, must not become the container's.
      ...(!configuredRlimits(needs.config).some(({ type }) => type === 'RLIMIT_NOFILE') && { openFiles: 1024 }),
      ...placement(needs.config),
      ...(needs.config.monitor.journal && { journal: true, journalFields: journalFields(record, sandbox) }),
      cgroupPath: record.cgroupsPath,
      sharedPidNamespace: namespaceModes(config, sandbox.record.config).pid !== 'container',
      createTimeoutMs: handler.createTimeoutSeconds * 1000,
      ...(restore && { restore }),
    },
  })
}

/** Whose output an entry of the journal is. A field without a value is left out. */
function journalFields({ config }: ContainerRecord, sandbox: Sandbox): Record<string, string> {
  const { metadata } = sandbox.record.config
  const fields = {
    CONTAINER_NAME: config.metadata?.name,
    POD_NAME: metadata?.name,
    POD_NAMESPACE: metadata?.namespace,
    POD_UID: metadata?.uid,
  }
  return Object.fromEntries(Object.entries(fields).flatMap(([name, value]) => (value ? [[name, value]] : [])))
}
