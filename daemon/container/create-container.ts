/**
 * CreateContainer: record → (rootfs → spec → bundle) beside (monitor) → runtime's create → created. Each step says how it
 * is undone; the record comes first, so that a daemon that dies on the way undoes it at its next start.
 */

import { mkdir, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { RunnableImage } from '#image/image-store.ts'
import { isKind, RuntimeError } from '#proto/errors.ts'
import type { ContainerConfig } from '#proto/generated/api.ts'
import { Rollback } from '#storage/rollback.ts'
import { checkpointSource } from '../checkpoint/checkpoint-source.ts'
import { type Checkpoint, prepareRestore } from '../checkpoint/prepare-restore.ts'
import { type ContainerId, mintContainerId } from '../ids.ts'
import { hostCgroupPath } from '../oci/cgroup-path.ts'
import { runtimeCli } from '../oci/runtime-cli.ts'
import { validateContainerConfig } from '../oci/spec/validate.ts'
import type { Operation } from '../operations/operations.ts'
import type { Parts } from '../parts.ts'
import { sameConfig } from '../same-config.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'
import { untilUndone } from '../undoing.ts'
import { authorizeImages } from './authorize-images.ts'
import { checkRequest } from './check-request.ts'
import { containerKey } from './container.ts'
import { type BundleInput, makeBundle } from './make-bundle.ts'
import { newRecord } from './new-record.ts'
import { removeFiles } from './remove-files.ts'
import { startMonitor } from './start-monitor.ts'
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
  | 'nri'
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
    return await create(needs, { sandbox, key, config }, signal)
  } catch (error) {
    // Whatever failed on the way, it failed because the sandbox was taken away under it.
    if (sandbox.status.state !== 'ready') throw notReady(sandbox, error)
    throw error
  }
}

async function create(needs: CreateNeeds, { sandbox, key, config }: Wanted, signal: AbortSignal): Promise<ContainerId> {
  using operation = needs.operations.begin('CreateContainer', key)
  operation.enter('signatures')
  await authorizeImages(needs.images, sandbox, config)
  const id = mintContainerId()
  using _ = await needs.locks.take(id)
  const log = needs.log.child({ container: id })
  await using rollback = new Rollback((what, cause) => log.warn('Left behind by a failed creation', { what, cause }))
  const making = { operation, rollback, signal }
  const checkpoint = await checkpointFor(needs, { sandbox, key, config }, id, making)
  const image = checkpoint?.image ?? requireImage(needs, config)
  const handler = needs.handlers.of(sandbox.record)
  checkRequest(needs, { sandbox, config, image, handler })

  const record = newRecord(needs, sandbox, { id, key, config, image, handler, isRestored: checkpoint !== undefined })
  operation.enter('record')
  const container = await needs.containers.create(record, { state: 'creating' })
  rollback.defer('container record', () => needs.containers.delete(id))

  operation.enter('files')
  const { dir } = needs.paths.container(id)
  await mkdir(dir, { mode: 0o700 })
  rollback.defer('bundle directory', () => removeFiles(needs, dir))
  await makeLogDirectory(record.logPath)

  const input = { sandbox, container, image, handler, checkpoint }
  if (checkpoint) await makeToBeRestored(needs, input, making)
  else await makeByRuntime(needs, input, making)
  operation.enter('reply')
  return id
}

interface Making {
  readonly operation: Operation
  readonly rollback: Rollback
  readonly signal: AbortSignal
}

/** When the image is one. */
async function checkpointFor(
  needs: CreateNeeds,
  { sandbox, config }: Wanted,
  id: ContainerId,
  { operation, rollback, signal }: Making,
): Promise<Checkpoint | undefined> {
  const source = await checkpointSource(needs, config.image?.image ?? '')
  if (!source) return undefined
  operation.enter('archive')
  const { checkpoint: files } = needs.paths.container(id)
  rollback.defer('files of the checkpoint', () => rm(files, { recursive: true, force: true }))
  return prepareRestore(needs, sandbox, id, source, signal)
}

async function makeByRuntime(needs: CreateNeeds, input: BundleInput, { operation, rollback }: Making): Promise<void> {
  const { sandbox, handler } = input
  const { id } = input.container.record
  operation.enter('rootfs and monitor')
  // The monitor starts while the rootfs is mounted and the spec is written: neither needs the other.
  // Unless a plugin may say where the container belongs, which its monitor has to know.
  const mayMove = needs.nri.containers.mayBeAdjusted
  const bundling = makeBundle(needs, { ...input, mayMove }, rollback)
  const launching = mayMove
    ? bundling.then((made) => startMonitor(needs, { ...input, container: made.container }))
    : startMonitor(needs, input)
  const [launched, bundled] = await Promise.allSettled([launching, bundling])
  if (launched.status === 'fulfilled') rollback.defer('monitor', () => launched.value.shutdown())
  if (bundled.status === 'rejected') throw bundled.reason
  if (launched.status === 'rejected') throw launched.reason
  const { container, process, resources } = bundled.value

  operation.enter('runtime')
  const client = launched.value
  rollback.defer('runtime state', () => runtimeCli(handler).delete(id, { force: true }))
  const init = await client.create().catch(refusedByRuntime)
  // Not before: it would take its processor time from this creation.
  setImmediate(() => needs.spares.refill())
  rollback.defer('cgroup', () => needs.linux.killCgroup(hostCgroupPath(container.record.cgroupsPath)))
  operation.enter('publish')
  await container.update(() => ({ state: 'created', process, init, ...(resources && { resources }) }))
  // Whoever stops the sandbox first says so and then looks for containers: either they see this one, or it sees them.
  assertReady(sandbox)
  rollback.keep()
  needs.nri.containers.isThere(container)
  watchExit(needs, container, client)
}

/** It has no process yet: that comes with its start, and runs at once. */
async function makeToBeRestored(
  needs: CreateNeeds,
  input: BundleInput,
  { operation, rollback }: Making,
): Promise<void> {
  operation.enter('rootfs')
  const { container, process, resources } = await makeBundle(needs, { ...input, mayMove: true }, rollback)
  operation.enter('publish')
  await container.update(() => ({ state: 'created', process, ...(resources && { resources }) }))
  assertReady(input.sandbox)
  rollback.keep()
  needs.nri.containers.isThere(container)
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

/** The kubelet makes the pod's log directory itself; other clients may not. */
async function makeLogDirectory(logPath: string | undefined): Promise<void> {
  if (logPath) await mkdir(dirname(logPath), { recursive: true, mode: 0o755 })
}
