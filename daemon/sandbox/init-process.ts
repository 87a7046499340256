/**
 * The init process of a pod that shares one PID namespace: it holds the namespace and reaps orphans. A container like any
 * other to monitor and runtime, of which the CRI shows nothing; made of a static program of the host, so no image is pulled.
 */
import { access, chown, constants, copyFile, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { ProcessIdentity } from '#linux/proc.ts'
import { RuntimeError } from '#proto/errors.ts'
import { writeNamedFile } from '#storage/write-file.ts'
import { launchMonitor, placement } from '../monitor/launch-monitor.ts'
import type { MonitorClient } from '../monitor/monitor-client.ts'
import { cgroupsPath, hostCgroupPath } from '../oci/cgroup-path.ts'
import { runtimeCli } from '../oci/runtime-cli.ts'
import { sandboxSpec } from '../oci/spec/sandbox-spec.ts'
import type { Parts } from '../parts.ts'
import { podLabels, setFileLabel } from '../selinux/file-labels.ts'
import { podIdMap, podNamespaces, type Sandbox, type SandboxRecord } from './sandbox.ts'
import { letPass, rootOf } from './user-namespaces.ts'

export type InitNeeds = Pick<
  Parts,
  'config' | 'handlers' | 'specHost' | 'linux' | 'log' | 'monitorProgram' | 'paths' | 'sandboxInits'
>

/** Start the init and pin its PID namespace. @throws RuntimeError failed-precondition when the host has no init program */
export async function startInit(needs: InitNeeds, sandbox: Sandbox): Promise<ProcessIdentity> {
  const { record } = sandbox
  const paths = needs.paths.sandbox(record.id)
  await requireProgram(needs.config.sandbox.initPath)
  await mkdir(paths.init, { mode: 0o700 })
  // The init is nobody, and this is its root directory.
  const rootfs = join(paths.init, 'rootfs')
  await mkdir(rootfs, { mode: 0o755 })
  const idMap = podIdMap(record.config)
  const root = rootOf(idMap)
  await chown(rootfs, root.uid, root.gid)
  setFileLabel(needs.linux, rootfs, podLabels(needs.specHost, record).mount)
  await letPass(paths.init, idMap)
  const spec = specOf(needs, record, await labelledProgram(needs, record))
  await writeNamedFile(join(paths.init, 'config.json'), JSON.stringify(spec), 0o600)
  const handler = needs.handlers.of(record)
  const client = await launchMonitor({
    program: needs.monitorProgram,
    dir: paths.init,
    linux: needs.linux,
    log: needs.log.child({ sandbox: record.id }),
    options: {
      id: record.id,
      cookie: record.cookie,
      runtime: { path: handler.path, root: handler.root, systemdCgroup: needs.config.cgroupDriver === 'systemd' },
      terminal: false,
      stdin: false,
      stdinOnce: false,
      ...placement(needs.config),
      cgroupPath: cgroupOf(needs, record),
      sharedPidNamespace: false,
      createTimeoutMs: handler.createTimeoutSeconds * 1000,
    },
  })
  const init = await client.create()
  needs.linux.pinProcessNamespace(init.pid, 'pid', paths.pin('pid'))
  await client.start()
  watchInit(needs, sandbox, client)
  return init
}

/** When the init ends, so do all processes of the pod: the sandbox is not ready any more. */
export function watchInit(
  needs: Pick<InitNeeds, 'log' | 'sandboxInits'>,
  sandbox: Sandbox,
  client: MonitorClient,
): void {
  const { id } = sandbox.record
  const ended = Promise.race([client.exited.then(() => {}), client.lost]).then(async () => {
    needs.sandboxInits.delete(id)
    await sandbox.update((status) => (status.state === 'ready' ? { state: 'stopped', released: false } : status), {
      orLater: true,
    })
  })
  ended.catch((cause) => needs.log.error('Cannot record the end of a sandbox init', { sandbox: id, cause }))
  needs.sandboxInits.set(id, client)
}

/** End the init and everything of it. Repeatable. */
export async function stopInit(needs: InitNeeds, record: SandboxRecord): Promise<void> {
  if (!podNamespaces(record.config).sharedPid) return
  const handler = needs.handlers.of(record)
  await runtimeCli(handler).delete(record.id, { force: true })
  await needs.linux.killCgroup(hostCgroupPath(cgroupOf(needs, record)))
  await needs.sandboxInits.get(record.id)?.shutdown()
  needs.sandboxInits.delete(record.id)
  await rm(needs.paths.sandbox(record.id).init, { recursive: true, force: true })
}

const cgroupOf = (needs: InitNeeds, record: SandboxRecord): string =>
  cgroupsPath(needs.config.cgroupDriver, record.config.linux?.cgroupParent ?? '', record.id)

/** The init of the pod. SELinux lets nobody enter a pod's domain by a program of the node: there it is a copy with the pod's label. */
async function labelledProgram(needs: InitNeeds, record: SandboxRecord): Promise<string> {
  const { initPath } = needs.config.sandbox
  const label = podLabels(needs.specHost, record).mount
  if (label === undefined) return initPath
  const copy = join(needs.paths.sandbox(record.id).init, 'program')
  await copyFile(initPath, copy)
  setFileLabel(needs.linux, copy, label)
  return copy
}

function specOf(needs: InitNeeds, record: SandboxRecord, initPath: string) {
  const paths = needs.paths.sandbox(record.id)
  const { hostNetwork, hostIpc } = podNamespaces(record.config)
  const { spec, warnings } = sandboxSpec({
    sandboxId: record.id,
    sandbox: record.config,
    host: needs.specHost,
    rootfs: join(paths.init, 'rootfs'),
    initPath,
    labels: podLabels(needs.specHost, record),
    pins: {
      ...(!hostNetwork && { net: paths.pin('net'), uts: paths.pin('uts') }),
      ...(!hostIpc && { ipc: paths.pin('ipc') }),
      ...(podIdMap(record.config) && { user: paths.pin('user') }),
    },
    cgroupsPath: cgroupOf(needs, record),
  })
  for (const warning of warnings) needs.log.debug(warning, { sandbox: record.id })
  return spec
}

async function requireProgram(path: string): Promise<void> {
  try {
    await access(path, constants.X_OK)
  } catch (cause) {
    throw new RuntimeError(
      'failed-precondition',
      `A pod that shares its PID namespace needs the init program "${path}" (configuration key sandbox.initPath), which cannot be run`,
      { cause },
    )
  }
}
