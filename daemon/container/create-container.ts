/**
 * CreateContainer: record → (rootfs → spec → bundle) beside (monitor) → runtime's create → created. Each step says how it
 * is undone; the record comes first, so that a daemon that dies on the way undoes it at its next start.
 */

import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { RunnableImage } from '#image/image-store.ts'
import { isKind, RuntimeError } from '#proto/errors.ts'
import type { ContainerConfig } from '#proto/generated/api.ts'
import { Rollback } from '#storage/rollback.ts'
import { nowNs } from '../clock.ts'
import { type ContainerId, mintContainerId } from '../ids.ts'
import { launchMonitor, placement } from '../monitor/launch-monitor.ts'
import type { MonitorClient } from '../monitor/monitor-client.ts'
import { cgroupsPath, hostCgroupPath } from '../oci/cgroup-path.ts'
import { runtimeCli } from '../oci/runtime-cli.ts'
import { type RuntimeHandler, runtimeUsed } from '../oci/runtime-handlers.ts'
import { namespaceModes } from '../oci/spec/namespaces.ts'
import { specText } from '../oci/spec/types.ts'
import { validateContainerConfig } from '../oci/spec/validate.ts'
import type { Parts } from '../parts.ts'
import { sameConfig } from '../same-config.ts'
import { podIdMap, type Sandbox } from '../sandbox/sandbox.ts'
import { letPass } from '../sandbox/user-namespaces.ts'
import { containerFileLabel, contextOption } from '../selinux/file-labels.ts'
import { untilUndone } from '../undoing.ts'
import { unbindSources } from './bound-mounts.ts'
import { type BuiltSpec, buildSpec } from './build-spec.ts'
import { checkRequest } from './check-request.ts'
import { configuredRlimits } from './configured.ts'
import { type Container, type ContainerRecord, containerKey } from './container.ts'
import { imageVolumes, mountImageVolumes } from './image-volumes.ts'
import { removeFiles } from './remove-files.ts'
import { watchExit } from './watch-exit.ts'

export type CreateNeeds = Pick<
  Parts,
  | 'bootId'
  | 'config'
  | 'containers'
  | 'flights'
  | 'handlers'
  | 'specHost'
  | 'images'
  | 'isolation'
  | 'seccompNotifier'
  | 'linux'
  | 'locks'
  | 'log'
  | 'monitorProgram'
  | 'operations'
  | 'paths'
  | 'sandboxes'
  | 'spares'
  | 'storage'
  | 'watches'
>

export interface CreateRequest {
  readonly sandbox: string
  readonly config: ContainerConfig
}

/**
 * Make a container, not started. A repeat of a request joins the running one, or gets the container that it made.
 * @throws RuntimeError not-found (sandbox, image), invalid-argument, failed-precondition, already-exists
 */
export async function createContainer(
  needs: CreateNeeds,
  request: CreateRequest,
  signal?: AbortSignal,
): Promise<string> {
  const { config } = request
  validateContainerConfig(config)
  const sandbox = readySandbox(needs, request.sandbox)
  const key = containerKey(sandbox.record.id, config)
  return needs.flights.run(
    `create-container:${key}`,
    (own) => existingOrNew(needs, { sandbox, key, config }, own),
    signal,
  )
}

interface Wanted {
  readonly sandbox: Sandbox
  readonly key: string
  readonly config: ContainerConfig
}

async function existingOrNew(
  needs: CreateNeeds,
  { sandbox, key, config }: Wanted,
  signal: AbortSignal,
): Promise<string> {
  await untilUndone(needs, key, signal)
  const existing = needs.containers.byKey(key)
  // The answer to an earlier, identical request was lost on its way: it is still the answer.
  if (existing?.status.state === 'created' && sameConfig(existing.record.config, config)) return existing.record.id
  try {
    return await create(needs, sandbox, key, config)
  } catch (error) {
    // Whatever failed on the way, it failed because the sandbox was taken away under it.
    if (sandbox.status.state !== 'ready') throw notReady(sandbox, error)
    throw error
  }
}

async function create(
  needs: CreateNeeds,
  sandbox: Sandbox,
  key: string,
  config: ContainerConfig,
): Promise<ContainerId> {
  using operation = needs.operations.begin('CreateContainer', key)
  const image = requireImage(needs, config)
  const handler = needs.handlers.of(sandbox.record)
  checkRequest(needs, { sandbox, config, image, handler })
  const id = mintContainerId()
  using _ = await needs.locks.take(id)
  const log = needs.log.child({ container: id })
  await using rollback = new Rollback((what, cause) => log.warn('Left behind by a failed creation', { what, cause }))

  const record = newRecord(needs, sandbox, { id, key, config, image, handler })
  operation.enter('record')
  const container = await needs.containers.create(record, { state: 'creating' })
  rollback.defer('container record', () => needs.containers.delete(id))

  operation.enter('files')
  const { dir } = needs.paths.container(id)
  await mkdir(dir, { mode: 0o700 })
  rollback.defer('bundle directory', () => removeFiles(needs, dir))
  await makeLogDirectory(record.logPath)

  const input = { sandbox, container, image, handler }
  operation.enter('rootfs and monitor')
  // The monitor starts while the rootfs is mounted and the spec is written: neither needs the other.
  const [launched, bundled] = await Promise.allSettled([launch(needs, input), makeBundle(needs, input, rollback)])
  if (launched.status === 'fulfilled') rollback.defer('monitor', () => launched.value.shutdown())
  if (bundled.status === 'rejected') throw bundled.reason
  if (launched.status === 'rejected') throw launched.reason
  for (const warning of bundled.value.warnings) log.warn(warning)

  operation.enter('runtime')
  const client = launched.value
  rollback.defer('runtime state', () => runtimeCli(handler).delete(id, { force: true }))
  const init = await client.create().catch(refusedByRuntime)
  // Not before: it would take its processor time from this creation.
  setImmediate(() => needs.spares.refill())
  rollback.defer('cgroup', () => needs.linux.killCgroup(hostCgroupPath(record.cgroupsPath)))
  operation.enter('publish')
  await container.update(() => ({ state: 'created', process: bundled.value.process, init }))
  // Whoever stops the sandbox first says so and then looks for containers: either they see this one, or it sees them.
  assertReady(sandbox)
  rollback.keep()
  watchExit(needs, container, client)
  operation.enter('reply')
  return id
}

/**
 * The spec has been checked as far as we can: what the runtime still refuses is for this host or image to answer for (a
 * processor that is not there, a mount point that is a file), and no defect of ours.
 */
function refusedByRuntime(error: unknown): never {
  if (!isKind(error, 'internal')) throw error
  throw new RuntimeError('failed-precondition', error.message, { cause: error })
}

function readySandbox(needs: CreateNeeds, idOrPrefix: string): Sandbox {
  const sandbox = needs.sandboxes.require(idOrPrefix)
  assertReady(sandbox)
  return sandbox
}

function assertReady(sandbox: Sandbox): void {
  if (sandbox.status.state !== 'ready') throw notReady(sandbox)
}

const notReady = ({ record, status }: Sandbox, cause?: unknown): RuntimeError =>
  new RuntimeError(
    'failed-precondition',
    `Cannot create a container in sandbox "${record.id}": the sandbox is ${status.state}`,
    { cause },
  )

function requireImage(needs: CreateNeeds, config: ContainerConfig): RunnableImage {
  const name = config.image?.image ?? ''
  const image = needs.images.resolve(name)
  if (!image)
    throw new RuntimeError('not-found', `Cannot create container "${config.metadata?.name}": no image "${name}"`)
  if (image.kind === 'artifact') {
    throw new RuntimeError(
      'failed-precondition',
      `Cannot create container "${config.metadata?.name}": "${name}" is an artifact of type ${JSON.stringify(image.artifactType)}, which can only be mounted`,
    )
  }
  return image
}

interface NewContainer {
  readonly id: ContainerId
  readonly key: string
  readonly config: ContainerConfig
  readonly image: RunnableImage
  readonly handler: RuntimeHandler
}

function newRecord(needs: CreateNeeds, sandbox: Sandbox, own: NewContainer): ContainerRecord {
  const { id, key, config, image, handler } = own
  const directory = sandbox.record.config.logDirectory
  const parent = sandbox.record.config.linux?.cgroupParent ?? ''
  return {
    version: 1,
    id,
    key,
    sandboxId: sandbox.record.id,
    createdAt: nowNs(),
    runtimeHandler: sandbox.record.runtimeHandler,
    runtime: runtimeUsed(handler),
    bootId: needs.bootId,
    config,
    imageId: image.id,
    imageRef: image.repoDigests[0] ?? image.id,
    imageVolumes: imageVolumes(needs.images, config),
    ...(directory && config.logPath && { logPath: join(directory, config.logPath) }),
    cgroupsPath: cgroupsPath(needs.config.cgroupDriver, parent, id),
    cookie: randomBytes(16).toString('hex'),
  }
}

/** The kubelet makes the pod's log directory itself; other clients may not. */
async function makeLogDirectory(logPath: string | undefined): Promise<void> {
  if (logPath) await mkdir(dirname(logPath), { recursive: true, mode: 0o755 })
}

function launch(needs: CreateNeeds, { sandbox, container, handler }: BundleInput): Promise<MonitorClient> {
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

interface BundleInput {
  readonly sandbox: Sandbox
  readonly container: Container
  readonly image: RunnableImage
  readonly handler: RuntimeHandler
}

async function makeBundle(needs: CreateNeeds, input: BundleInput, rollback: Rollback): Promise<BuiltSpec> {
  const { id } = input.container.record
  const paths = needs.paths.container(id)
  const idMap = podIdMap(input.sandbox.record.config)
  await letPass(paths.dir, idMap)
  await mkdir(paths.volumes, { mode: 0o711 })
  const label = containerFileLabel(needs.specHost, input.sandbox.record, input.container.record.config)
  const layers = input.image.diffIds
  const options = contextOption(label)
  await needs.storage.rootfs.create({ id, layers, mountpoint: paths.rootfs, idMap, options })
  rollback.defer('rootfs', () => needs.storage.rootfs.remove(id))
  const volumes = await mountImageVolumes(needs, paths, input.container.record, rollback, { idMap, options })
  rollback.defer('seccomp listener', () => needs.seccompNotifier.forget(id))
  rollback.defer('mounts', () => unbindSources(needs, paths, input.container.record.config))
  const built = await buildSpec(needs, { ...input, volumes })
  await writeFile(paths.spec, specText(built.spec), { mode: 0o600 })
  return built
}
