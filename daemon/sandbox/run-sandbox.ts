/**
 * RunPodSandbox: (network ready) → record → files → namespaces → network → (init process) → ready. Each step says how it is undone; the
 * record comes first, so that a daemon that dies on the way undoes it at its next start.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, rm } from 'node:fs/promises'
import { RuntimeError } from '#proto/errors.ts'
import type { PodSandboxConfig } from '#proto/generated/api.ts'
import { Rollback } from '#storage/rollback.ts'
import { nowNs } from '../clock.ts'
import { mintSandboxId, type SandboxId } from '../ids.ts'
import { type RuntimeUsed, runtimeUsed } from '../oci/runtime-handlers.ts'
import type { Operation } from '../operations/operations.ts'
import type { Parts } from '../parts.ts'
import { sameConfig } from '../same-config.ts'
import { podLabels, setFileLabel } from '../selinux/file-labels.ts'
import { freeLevel } from '../selinux/pod-level.ts'
import { untilUndone } from '../undoing.ts'
import { writeEtcFiles, writeHosts } from './etc-files.ts'
import { type InitNeeds, startInit, stopInit } from './init-process.ts'
import { makeNamespaces, releaseNamespaces } from './namespaces.ts'
import { attachment } from './pod-attachment.ts'
import { shmBytes, sysctlsOf } from './pod-defaults.ts'
import { podIdMap, podNamespaces, type SandboxRecord, sandboxKey } from './sandbox.ts'
import { offersUserNamespaces } from './user-namespaces.ts'
import { validateSandboxConfig } from './validate-sandbox.ts'

export type RunNeeds = InitNeeds &
  Pick<Parts, 'bootId' | 'flights' | 'host' | 'locks' | 'storage' | 'network' | 'nri' | 'operations' | 'sandboxes'>

/**
 * Make a sandbox and bring it to ready. A repeat of a request joins the running one, or gets the sandbox that it made.
 * @throws RuntimeError invalid-argument, already-exists (the same attempt with another configuration, or one that has
 *   stopped), failed-precondition (no network configuration), and what the network plugins report
 */
export async function runSandbox(
  needs: RunNeeds,
  config: PodSandboxConfig | undefined,
  runtimeHandler: string,
  signal?: AbortSignal,
): Promise<string> {
  const valid = validateSandboxConfig(config)
  const handler = needs.handlers.offered(runtimeHandler)
  if (podIdMap(valid) && !offersUserNamespaces(needs, handler)) {
    throw new RuntimeError(
      'failed-precondition',
      `Runtime handler "${handler.name}" has no user namespaces on this node`,
    )
  }
  const key = sandboxKey(valid)
  return needs.flights.run(
    `run-sandbox:${key}`,
    (own) => existingOrNew(needs, { key, config: valid, runtimeHandler, runtime: runtimeUsed(handler) }, own),
    signal,
  )
}

interface NewSandbox {
  readonly key: string
  readonly config: PodSandboxConfig
  readonly runtimeHandler: string
  readonly runtime: RuntimeUsed
}

async function existingOrNew(needs: RunNeeds, request: NewSandbox, signal: AbortSignal): Promise<string> {
  await untilUndone(needs, request.key, signal)
  const existing = needs.sandboxes.byKey(request.key)
  // The answer to an earlier, identical request was lost on its way: it is still the answer.
  if (existing?.status.state === 'ready' && sameConfig(existing.record.config, request.config))
    return existing.record.id
  return run(needs, request, signal)
}

async function run(
  needs: RunNeeds,
  { key, config, runtimeHandler, runtime }: NewSandbox,
  signal: AbortSignal,
): Promise<SandboxId> {
  using operation = needs.operations.begin('RunPodSandbox', key)
  const id = mintSandboxId()
  const log = needs.log.child({ sandbox: id })
  await using rollback = new Rollback((what, cause) => log.warn('Left behind by a failed creation', { what, cause }))
  if (!podNamespaces(config).hostNetwork) {
    operation.enter('network ready')
    await needs.network.untilReady(signal)
  }
  const record: SandboxRecord = {
    version: 1,
    id,
    key,
    createdAt: nowNs(),
    runtimeHandler,
    runtime,
    bootId: needs.bootId,
    cookie: randomBytes(16).toString('hex'),
    config,
    ...(needs.specHost.selinuxEnabled && { selinuxLevel: podLevel(needs, config) }),
  }
  const label = podLabels(needs.specHost, record).mount
  const inside = {
    sysctls: sysctlsOf(config, needs.config.sandbox.sysctls),
    shmBytes: shmBytes(config, needs.config.sandbox, needs.handlers.of({ runtimeHandler, runtime })),
  }
  operation.enter('record')
  const sandbox = await needs.sandboxes.create(record, { state: 'creating' })
  rollback.defer('sandbox record', () => needs.sandboxes.delete(id))

  operation.enter('files')
  const paths = needs.paths.sandbox(id)
  for (const dir of [paths.dir, paths.etc, paths.namespaces]) await mkdir(dir, { mode: 0o711 })
  rollback.defer('sandbox directory', () => rm(paths.dir, { recursive: true, force: true }))
  await writeEtcFiles(paths, config)
  for (const path of [paths.hostname, paths.resolvConf]) setFileLabel(needs.linux, path, label)

  operation.enter('namespaces')
  rollback.defer('namespaces', () => releaseNamespaces(needs.linux, paths))
  await makeNamespaces(needs.linux, paths, config, { ...inside, label })

  operation.enter('network')
  const ips = await connect(needs, record, rollback, signal, operation)
  await writeHosts(paths, config, ips)
  setFileLabel(needs.linux, paths.hosts, label)

  operation.enter('init')
  const { sharedPid } = podNamespaces(config)
  if (sharedPid) rollback.defer('init process', () => stopInit(needs, record))
  const init = sharedPid ? await startInit(needs, sandbox) : undefined
  operation.enter('plugins')
  rollback.defer('plugins', () => needs.nri.pods.undo(sandbox))
  await needs.nri.pods.run(sandbox, ips)
  operation.enter('publish')
  await sandbox.update(() => ({ state: 'ready', ips: [...ips], ...(init && { init }) }))
  rollback.keep()
  needs.nri.pods.isThere(sandbox)
  operation.enter('reply')
  return id
}

/** Taken by the pod's record, which has to be made in the same tick. */
const podLevel = ({ sandboxes }: Pick<Parts, 'sandboxes'>, { linux }: PodSandboxConfig): string =>
  linux?.securityContext?.selinuxOptions?.level ||
  freeLevel(new Set(sandboxes.all().map(({ record }) => record.selinuxLevel ?? '')))

/** The pod's addresses; none on the host network. */
async function connect(
  needs: RunNeeds,
  record: SandboxRecord,
  rollback: Rollback,
  signal: AbortSignal,
  operation: Operation,
): Promise<readonly string[]> {
  if (podNamespaces(record.config).hostNetwork) return []
  const pod = attachment(record, needs.paths.sandbox(record.id))
  rollback.defer('pod network', () => needs.network.release(pod, { isLast: true }))
  const { ips } = await needs.network.attach(pod, signal, {
    recorded: () => operation.enter('network add'),
    added: () => operation.enter('network result'),
    written: () => operation.enter('host ports'),
  })
  if (ips.length > 0) return ips
  throw new RuntimeError('internal', `The network plugins gave sandbox "${record.id}" no address`)
}
