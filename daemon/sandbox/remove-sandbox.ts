/** RemovePodSandbox: stop it if need be, remove its containers, forget it. Repeatable (api.proto, RemovePodSandbox). */
import { rm } from 'node:fs/promises'
import { type RemoveNeeds, remove } from '../container/remove-container.ts'
import type { SandboxId } from '../ids.ts'
import { type StopSandboxNeeds, stopThis } from './stop-sandbox.ts'

export type RemoveSandboxNeeds = StopSandboxNeeds & RemoveNeeds

export async function removeSandbox(
  needs: RemoveSandboxNeeds,
  idOrPrefix: string,
  signal?: AbortSignal,
): Promise<void> {
  const sandbox = needs.sandboxes.find(idOrPrefix)
  if (!sandbox) return
  const { id } = sandbox.record
  using operation = needs.operations.begin('RemovePodSandbox', id)
  operation.enter('stop')
  await stopThis(needs, sandbox, signal, true)
  operation.enter('containers')
  await removeContainers(needs, id, signal)
  using _ = await needs.locks.take(id, signal)
  if (!needs.sandboxes.get(id)) return
  operation.enter('files')
  await rm(needs.paths.sandbox(id).dir, { recursive: true, force: true })
  operation.enter('record')
  await needs.sandboxes.delete(id)
  operation.enter('plugins')
  await needs.nri.pods.remove(sandbox)
  operation.enter('reply')
}

/** A pod may have thousands that have ended: all at once they would keep everybody else waiting. */
const AT_ONCE = 16

async function removeContainers(
  needs: RemoveSandboxNeeds,
  id: SandboxId,
  signal: AbortSignal | undefined,
): Promise<void> {
  const own = needs.containers.all().filter(({ record }) => record.sandboxId === id)
  const left = own.values()
  const failures: unknown[] = []
  const inTurn = async () => {
    for (const container of left) await remove(needs, container, signal).catch((error) => failures.push(error))
  }
  await Promise.all(Array.from({ length: AT_ONCE }, inTurn))
  if (failures.length > 0) throw failures[0]
}
