/**
 * StopPodSandbox: no new containers, then an end to the ones that are there, then network and namespaces back. Repeatable
 * at every step, and an absent sandbox is stopped already (api.proto, StopPodSandbox).
 */
import { type StopNeeds, stop } from '../container/stop-container.ts'
import type { SandboxId } from '../ids.ts'
import type { Operation } from '../operations/operations.ts'
import type { Parts } from '../parts.ts'
import { type InitNeeds, stopInit } from './init-process.ts'
import { releaseNamespaces } from './namespaces.ts'
import { attachment } from './pod-attachment.ts'
import { podNamespaces, type Sandbox } from './sandbox.ts'

export type StopSandboxNeeds = StopNeeds &
  InitNeeds &
  Pick<Parts, 'forwards' | 'locks' | 'network' | 'nri' | 'sandboxes'>

export async function stopSandbox(needs: StopSandboxNeeds, idOrPrefix: string, signal?: AbortSignal): Promise<void> {
  const sandbox = needs.sandboxes.find(idOrPrefix)
  if (sandbox) await stopThis(needs, sandbox, signal)
}

/** Stop this sandbox; see `stopSandbox`. `isLast`: nobody will ask again, so nothing may fail for the network's sake. */
export async function stopThis(
  needs: StopSandboxNeeds,
  sandbox: Sandbox,
  signal?: AbortSignal,
  isLast = false,
): Promise<void> {
  const { record } = sandbox
  using _ = await needs.locks.take(record.id, signal)
  using operation = needs.operations.begin('StopPodSandbox', record.id)
  operation.enter('refuse containers')
  await sandbox.update((status) => (status.state === 'ready' ? { state: 'stopped', released: false } : status), {
    orLater: true,
  })
  needs.forwards.end(record.id)
  operation.enter('containers')
  await stopContainers(needs, record.id, signal)
  if (sandbox.status.state === 'stopped' && sandbox.status.released) return
  operation.enter('plugins')
  await needs.nri.pods.stop(sandbox)
  await release(needs, sandbox, operation, isLast)
  operation.enter('publish')
  await sandbox.update(() => ({ state: 'stopped', released: true }), { orLater: true })
  operation.enter('reply')
}

/** All at once, each to its end even when another fails. The kubelet gave them their grace period before. */
async function stopContainers(needs: StopSandboxNeeds, id: SandboxId, signal: AbortSignal | undefined): Promise<void> {
  const own = needs.containers.all().filter(({ record }) => record.sandboxId === id)
  const outcomes = await Promise.allSettled(own.map((container) => stop(needs, container, 0, signal)))
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
}

/**
 * Give back all that a sandbox holds outside its record and directory. Repeatable. What the network plugins keep refusing to
 * give back stays on the network's own record and does not keep the sandbox; see PodNetwork.release.
 */
export async function release(
  needs: InitNeeds & Pick<Parts, 'network'>,
  { record }: Sandbox,
  operation: Operation,
  isLast: boolean,
): Promise<void> {
  const paths = needs.paths.sandbox(record.id)
  operation.enter('init')
  await stopInit(needs, record)
  operation.enter('network')
  if (!podNamespaces(record.config).hostNetwork) await needs.network.release(attachment(record, paths), { isLast })
  operation.enter('namespaces')
  releaseNamespaces(needs.linux, paths)
}
