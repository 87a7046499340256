/**
 * CheckpointContainer: freeze → memory (CRIU) and changed files → thaw → archive. The container runs on whatever happens, and the
 * archive appears as a whole or not at all. docs/checkpoint.md has what is in it.
 */
import { mkdir, open, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import { nowNs } from '../clock.ts'
import type { Container } from '../container/container.ts'
import { runningContainer } from '../container/running-container.ts'
import { namespaceModes } from '../oci/spec/namespaces.ts'
import type { Parts } from '../parts.ts'
import { podIdMap, type Sandbox } from '../sandbox/sandbox.ts'
import { archiveFiles } from './archive.ts'
import { configDump, specDump } from './describe-container.ts'
import { dumpContainer } from './dump-container.ts'
import { hiddenFiles } from './hidden-files.ts'
import { type Location, readLocation, writeAt } from './location.ts'
import { whileFrozen } from './while-frozen.ts'

export type CheckpointNeeds = Pick<
  Parts,
  'config' | 'containers' | 'handlers' | 'linux' | 'locks' | 'log' | 'operations' | 'paths' | 'sandboxes' | 'storage'
>

export interface CheckpointRequest {
  readonly container: string
  /** The path of the archive. */
  readonly location: string
  /** 0: the configured time. */
  readonly timeoutSeconds: bigint
}

const MOST_ENTRIES = 5_000_000
const LONGEST_SECONDS = 2_147_483

/**
 * @throws RuntimeError unimplemented when it is not configured; not-found; invalid-argument; failed-precondition when the container does
 *   not run, cannot be dumped, or the location is not ours to write to; deadline-exceeded; resource-exhausted
 */
export async function checkpointContainer(
  needs: CheckpointNeeds,
  request: CheckpointRequest,
  signal: AbortSignal,
): Promise<void> {
  const { mode, timeoutSeconds } = needs.config.checkpoint
  if (mode === 'off') {
    throw new RuntimeError(
      'unimplemented',
      'CheckpointContainer is switched off on this node: "checkpoint.mode" in its configuration is "off"',
    )
  }
  const seconds = secondsOf(request.timeoutSeconds, timeoutSeconds)
  const container = eligible(needs, request.container)
  const location = readLocation(request.location, [needs.config.root, needs.config.state])
  const late = AbortSignal.timeout(seconds * 1000)
  try {
    await checkpoint(needs, container, location, AbortSignal.any([signal, late]))
  } catch (error) {
    signal.throwIfAborted()
    if (!late.aborted) throw error
    throw new RuntimeError(
      'deadline-exceeded',
      `The checkpoint of container "${container.record.id}" took longer than ${seconds} s; the container runs on`,
      { cause: error },
    )
  }
}

function secondsOf(asked: bigint, configured: number): number {
  if (asked < 0n) throw new RuntimeError('invalid-argument', `timeout ${asked} is negative`)
  return asked === 0n ? configured : Math.min(Number(asked), LONGEST_SECONDS)
}

/** Running, and of a kind that can be restored. */
function eligible(needs: CheckpointNeeds, idOrPrefix: string): Container {
  const container = runningContainer(needs, idOrPrefix, 'checkpoint')
  const { id, config, sandboxId } = container.record
  const pod = needs.sandboxes.require(sandboxId).record.config
  const refuse = (why: string) => new RuntimeError('failed-precondition', `Cannot checkpoint container "${id}": ${why}`)
  if (podIdMap(pod)) throw refuse('its pod has a user namespace')
  const { pid } = namespaceModes(config, pod)
  if (pid !== 'container') throw refuse('it shares its process namespace')
  return container
}

async function checkpoint(
  needs: CheckpointNeeds,
  container: Container,
  location: Location,
  signal: AbortSignal,
): Promise<void> {
  const { id } = container.record
  using operation = needs.operations.begin('CheckpointContainer', id)
  using _ = await needs.locks.take(id, signal)
  eligible(needs, id)
  const { checkpoint: dir } = needs.paths.container(id)
  await rm(dir, { recursive: true, force: true })
  await mkdir(dir, { mode: 0o700 })
  try {
    const frozenAt = nowNs()
    await whileFrozen(needs, container.record, signal, async () => {
      operation.enter('memory')
      await dumpContainer(needs, container.record, dir, signal)
      operation.enter('files')
      await dumpFiles(needs, container, dir, signal)
    })
    operation.enter('archive')
    await describe(needs, container, dir, frozenAt)
    await writeAt(location, async (fd) => {
      await needs.storage.pack(dir, fd, limits(needs), signal)
    })
  } finally {
    await rm(dir, { recursive: true, force: true }).catch((error) =>
      needs.log.warn('Left behind by a checkpoint', { container: id, path: dir, why: messageOf(error) }),
    )
  }
  operation.enter('reply')
}

const limits = ({ config }: CheckpointNeeds) => ({
  bytes: config.checkpoint.maxMiB * 2 ** 20,
  entries: MOST_ENTRIES,
})

/** What the container wrote over its image, and what it hides of it. */
async function dumpFiles(
  needs: CheckpointNeeds,
  { record }: Container,
  dir: string,
  signal: AbortSignal,
): Promise<void> {
  const { upper, lower } = await needs.storage.rootfs.changes(record.id)
  await using output = await open(join(dir, archiveFiles.rootfs), 'wx', 0o600)
  const { whiteouts, opaque } = await needs.storage.pack(upper, output.fd, limits(needs), signal)
  const deleted = hiddenFiles(needs, { upper, lower, whiteouts, opaque })
  await writeFile(join(dir, archiveFiles.deleted), JSON.stringify(deleted), { mode: 0o600 })
}

async function describe(needs: CheckpointNeeds, container: Container, dir: string, at: bigint): Promise<void> {
  const sandbox: Sandbox = needs.sandboxes.require(container.record.sandboxId)
  const spec = await readFile(needs.paths.container(container.record.id).spec, 'utf8')
  const write = (name: string, text: string) => writeFile(join(dir, name), text, { mode: 0o600 })
  await write(archiveFiles.spec, specDump(spec, container, sandbox))
  await write(archiveFiles.config, JSON.stringify(configDump(container, at)))
}
