/**
 * The adjustments of several plugins to one container, put together in their order. Each plugin sees the container as those
 * before it have changed it; two that set the same thing are a conflict.
 */
import {
  ContainerAdjustment as Adjustment,
  Container,
  type ContainerAdjustment,
  Field,
  Hooks as HookLists,
  type Hooks,
  LinuxContainerAdjustment as LinuxAdjustment,
  type LinuxContainer,
  type LinuxContainerAdjustment,
  LinuxContainer as LinuxPart,
  LinuxRdt,
} from '#proto/generated/nri.ts'
import { mergeResources } from './merge-resources.ts'
import { Owners, removal, removed } from './owners.ts'

const HOOKS = ['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop'] as const

export class AdjustmentMerge {
  readonly owners: Owners
  /** As the next plugin sees it. */
  readonly container: Container
  /** All of it so far. */
  readonly adjustment: ContainerAdjustment = Adjustment.create({})
  readonly #linux: LinuxContainerAdjustment = LinuxAdjustment.create({})
  readonly #view: LinuxContainer

  constructor(container: Container, owners: Owners) {
    this.owners = owners
    this.container = Container.create(container)
    this.#view = LinuxPart.create(container.linux ?? {})
    this.container.linux = this.#view
    this.adjustment.linux = this.#linux
  }

  /** @throws RuntimeError failed-precondition for a conflict with another plugin */
  add(wanted: ContainerAdjustment, plugin: string): void {
    const { container, adjustment } = this
    mergeTable(
      this.#claims(plugin, Field.Annotations),
      wanted.annotations,
      container.annotations,
      adjustment.annotations,
      '',
    )
    this.#mounts(wanted, plugin)
    this.#env(wanted, plugin)
    this.#args(wanted.args, plugin)
    this.#hooks(wanted.hooks, plugin)
    for (const limit of wanted.rlimits) {
      this.#claims(plugin, Field.Rlimits).claim(limit.type)
      container.rlimits = [...container.rlimits.filter(({ type }) => type !== limit.type), limit]
      adjustment.rlimits.push(limit)
    }
    for (const device of wanted.cdiDevices) {
      this.#claims(plugin, Field.CdiDevices).claim(device.name)
      adjustment.cdiDevices.push(device)
    }
    if (wanted.linux) this.#addLinux(wanted.linux, plugin)
  }

  #claims(plugin: string, field: Field): Claims {
    const { owners, container } = this
    return {
      claim: (entry) => owners.claim(container.id, field, plugin, entry),
      clear: (entry) => owners.clear(container.id, field, plugin, entry),
    }
  }

  #mounts({ mounts }: ContainerAdjustment, plugin: string): void {
    const merged = mergeList(this.#claims(plugin, Field.Mounts), mounts, (mount) => mount.destination, {
      view: this.container.mounts,
      out: this.adjustment.mounts,
    })
    this.container.mounts = merged.view
    this.adjustment.mounts = merged.out
  }

  #env({ env }: ContainerAdjustment, plugin: string): void {
    const before = this.container.env.map((entry) => ({
      key: nameOf(entry),
      value: entry.slice(nameOf(entry).length + 1),
    }))
    const merged = mergeList(this.#claims(plugin, Field.Env), env, ({ key }) => key, {
      view: before,
      out: this.adjustment.env,
    })
    this.container.env = merged.view.map(({ key, value }) => `${key}=${value}`)
    this.adjustment.env = merged.out
  }

  #args(args: readonly string[], plugin: string): void {
    if (args.length === 0) return
    const { claim, clear } = this.#claims(plugin, Field.Args)
    if (args[0] === '') clear()
    claim()
    const words = args[0] === '' ? args.slice(1) : [...args]
    this.adjustment.args = words
    this.container.args = words
  }

  #hooks(hooks: Hooks | undefined, plugin: string): void {
    if (!hooks || HOOKS.every((stage) => hooks[stage].length === 0)) return
    this.owners.join(this.container.id, Field.OciHooks, plugin)
    this.adjustment.hooks = withHooks(this.adjustment.hooks, hooks)
    this.container.hooks = withHooks(this.container.hooks, hooks)
  }

  #addLinux(wanted: LinuxContainerAdjustment, plugin: string): void {
    const view = this.#view
    const out = this.#linux
    const devices = mergeList(this.#claims(plugin, Field.Devices), wanted.devices, ({ path }) => path, {
      view: view.devices,
      out: out.devices,
    })
    view.devices = devices.view
    out.devices = devices.out
    if (wanted.resources) {
      const claimant = { owners: this.owners, container: this.container.id, plugin }
      out.resources = mergeResources(out.resources, wanted.resources, claimant)
      // Claimed just now: what is shown to the next plugin needs no owners of its own.
      view.resources = mergeResources(view.resources, wanted.resources, { ...claimant, owners: new Owners() })
    }
    const set = <K extends keyof LinuxContainerAdjustment>(key: K, field: Field): void => {
      if (wanted[key] === undefined || wanted[key] === '') return
      this.#claims(plugin, field).claim()
      out[key] = wanted[key]
    }
    set('cgroupsPath', Field.CgroupsPath)
    set('oomScoreAdj', Field.OomScoreAdj)
    set('ioPriority', Field.IoPriority)
    set('seccompPolicy', Field.SeccompPolicy)
    set('scheduler', Field.LinuxSched)
    set('memoryPolicy', Field.MemoryPolicy)
    view.cgroupsPath = wanted.cgroupsPath || view.cgroupsPath
    view.oomScoreAdj = wanted.oomScoreAdj ?? view.oomScoreAdj
    view.ioPriority = wanted.ioPriority ?? view.ioPriority
    view.seccompPolicy = wanted.seccompPolicy ?? view.seccompPolicy
    view.scheduler = wanted.scheduler ?? view.scheduler
    this.#namespaces(wanted, plugin)
    mergeTable(this.#claims(plugin, Field.Sysctl), wanted.sysctl, view.sysctl, out.sysctl, '')
    mergeTable(this.#claims(plugin, Field.LinuxNetDevices), wanted.netDevices, view.netDevices, out.netDevices, {
      name: '',
    })
    if (wanted.rdt) this.#rdt(wanted.rdt, plugin)
  }

  /** Here the first to remove one owns it too. */
  #namespaces({ namespaces }: LinuxContainerAdjustment, plugin: string): void {
    const { claim } = this.#claims(plugin, Field.Namespace)
    for (const namespace of namespaces) {
      const gone = removed(namespace.type)
      const type = gone ?? namespace.type
      claim(type)
      const others = this.#view.namespaces.filter((other) => other.type !== type)
      this.#view.namespaces = gone === undefined ? [...others, namespace] : others
      this.#linux.namespaces.push(namespace)
    }
  }

  #rdt(wanted: LinuxRdt, plugin: string): void {
    const fields = [
      ['closId', Field.RdtClosID],
      ['schemata', Field.RdtSchemata],
      ['enableMonitoring', Field.RdtEnableMonitoring],
    ] as const
    if (wanted.remove) for (const [, field] of fields) this.#claims(plugin, field).clear()
    const rdt = wanted.remove ? LinuxRdt.create({ remove: true }) : LinuxRdt.create(this.#linux.rdt ?? {})
    const set = <K extends keyof LinuxRdt>(key: K, field: Field): void => {
      if (wanted[key] === undefined) return
      this.#claims(plugin, field).claim()
      rdt[key] = wanted[key]
    }
    for (const [key, field] of fields) set(key, field)
    this.#linux.rdt = rdt
    this.#view.rdt = rdt
  }
}

interface Claims {
  claim(entry?: string): void
  clear(entry?: string): void
}

/** Removals come first, whatever their place. What was removed and set anew has the mark and the new value. */
function mergeTable<T>(
  { claim, clear }: Claims,
  wanted: Record<string, T>,
  view: Record<string, T>,
  out: Record<string, T>,
  nothing: T,
): void {
  for (const key of Object.keys(wanted)) {
    const gone = removed(key)
    if (gone === undefined) continue
    clear(gone)
    delete view[gone]
    delete out[gone]
    out[removal(gone)] = nothing
  }
  for (const [key, value] of Object.entries(wanted)) {
    if (removed(key) !== undefined) continue
    claim(key)
    view[key] = value
    out[key] = value
  }
}

function mergeList<T>(
  { claim, clear }: Claims,
  wanted: readonly T[],
  keyOf: (item: T) => string,
  { view, out }: { readonly view: readonly T[]; readonly out: readonly T[] },
): { view: T[]; out: T[] } {
  const gone = new Set(wanted.flatMap((item) => removed(keyOf(item)) ?? []))
  const added = wanted.filter((item) => removed(keyOf(item)) === undefined)
  const keys = new Set(added.map(keyOf))
  for (const key of gone) clear(key)
  for (const item of added) claim(keyOf(item))
  const marks = wanted.filter((item) => removed(keyOf(item)) !== undefined && !keys.has(removed(keyOf(item)) ?? ''))
  return {
    view: [...view.filter((item) => !gone.has(keyOf(item)) && !keys.has(keyOf(item))), ...added],
    out: [...out.filter((item) => !gone.has(keyOf(item)) && !gone.has(removed(keyOf(item)) ?? '')), ...marks, ...added],
  }
}

const nameOf = (entry: string): string => entry.split('=', 1)[0] ?? entry

function withHooks(before: Hooks | undefined, added: Hooks): Hooks {
  const hooks = HookLists.create(before ?? {})
  for (const stage of HOOKS) hooks[stage] = [...hooks[stage], ...added[stage]]
  return hooks
}
