/** CreateContainer as plugins see it: each adjusts what those before it made, and then the validators judge the whole. */
import { RuntimeError } from '#proto/errors.ts'
import type {
  Container,
  ContainerAdjustment,
  ContainerEviction,
  ContainerUpdate,
  PodSandbox,
} from '#proto/generated/nri.ts'
import { Event } from '#proto/generated/nri.ts'
import { type ValidatorRules, validate } from './default-validator.ts'
import { AdjustmentMerge } from './merge-adjustment.ts'
import { UpdateMerge } from './merge-updates.ts'
import { METHODS } from './methods.ts'
import { Owners } from './owners.ts'
import type { Plugin } from './plugin.ts'

export interface CreateOutcome {
  readonly adjustment: ContainerAdjustment
  /** Of other containers. */
  readonly updates: readonly ContainerUpdate[]
  readonly evictions: readonly ContainerEviction[]
}

/** @throws RuntimeError failed-precondition when a plugin or the node's rules say no, or plugins contradict each other */
export async function askCreate(
  plugins: readonly Plugin[],
  rules: ValidatorRules,
  { pod, container }: { readonly pod: PodSandbox | undefined; readonly container: Container },
): Promise<CreateOutcome> {
  const owners = new Owners()
  const merge = new AdjustmentMerge(container, owners)
  const updates = new UpdateMerge(owners, container.id)
  const evictions: ContainerEviction[] = []
  for (const plugin of plugins.filter((each) => each.wants(Event.CREATE_CONTAINER))) {
    const answer = await plugin.ask(METHODS.create, { pod, container: merge.container })
    if (!answer) continue
    if (answer.adjust) merge.add(answer.adjust, plugin.name)
    updates.add(answer.update, plugin.name)
    evictions.push(...answer.evict)
  }
  const outcome = { adjustment: merge.adjustment, updates: updates.updates, evictions }
  const there = plugins.filter((plugin) => !plugin.isGone)
  validate(rules, {
    pod,
    container,
    adjustment: outcome.adjustment,
    owners,
    plugins: new Set(there.map(({ identity }) => identity.base)),
  })
  const validators = there.filter((plugin) => plugin.wants(Event.VALIDATE_CONTAINER_ADJUSTMENT))
  const request = {
    pod,
    container,
    adjust: outcome.adjustment,
    update: outcome.updates,
    owners: owners.toMessage(),
    plugins: there.map(({ identity }) => ({ name: identity.base, index: identity.index })),
  }
  await Promise.all(validators.map((validator) => judge(validator, request)))
  return outcome
}

/** One that does not come to a judgement has not agreed; it is not asked for the next container. */
async function judge(validator: Plugin, request: Parameters<typeof METHODS.validate.request.encode>[0]): Promise<void> {
  const answer = await validator.ask(METHODS.validate, request)
  if (!answer) throw refused(validator, 'it went away while it was asked')
  if (answer.reject) throw refused(validator, answer.reason || 'it gives no reason')
}

const refused = ({ name }: Plugin, why: string): RuntimeError =>
  new RuntimeError('failed-precondition', `NRI plugin "${name}" rejects the adjustments of other plugins: ${why}`)
