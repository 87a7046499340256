/**
 * Keeps the node's settings in step with the containers that have processors of their own and ask for quiet there: interrupts,
 * scheduler, sleep states, frequency. Level-triggered: whatever changes, all settings are computed anew from the containers that
 * live, on top of what was there before any of them, which is kept on the disk.
 */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { writeFileAtomicSync } from '#linux/atomic-file.ts'
import { writeCgroupFile } from '#linux/cgroup.ts'
import { readKernelFile } from '#linux/read-bounded.ts'
import { writeKernelFile } from '#linux/write-kernel-file.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { type CpuSet, formatMask, parseMask, union } from '../oci/cpu-list.ts'
import { bannedIn, withBanned } from './irqbalance-file.ts'
import { type KernelRoots, type Setting, wantedSettings } from './kernel-settings.ts'
import { resumeBalancing, stopBalancing } from './load-balancing.ts'
import { Originals } from './originals.ts'
import type { IsolationWishes } from './wishes.ts'

export interface Isolated {
  readonly wishes: IsolationWishes
  /** Its path below each cgroup mount. */
  readonly cgroup: string
}

export interface IsolationOptions {
  readonly roots: KernelRoots
  readonly irqbalanceConfig: string
  /** Where the settings from before are kept; survives a reboot. */
  readonly originalsFile: string
  readonly bootId: string
  readonly cgroupVersion: 1 | 2
  readonly log: Log
  /** Makes irqbalance read its configuration. */
  readonly restartIrqbalance: () => Promise<void>
}

export class CpuIsolation {
  readonly #options: IsolationOptions
  readonly #originals: Originals
  readonly #live = new Map<string, Isolated>()
  #tail: Promise<unknown> = Promise.resolve()

  constructor(options: IsolationOptions) {
    this.#options = options
    this.#originals = new Originals(options.originalsFile, options.bootId)
  }

  /** Before the container's first instruction. @throws RuntimeError failed-precondition; then nothing has changed */
  begin(id: string, isolated: Isolated): Promise<void> {
    return this.#inTurn(async () => {
      const former = this.#live.get(id)
      this.#live.set(id, isolated)
      try {
        await this.#settle()
        this.#liftQuota(isolated)
        if (isolated.wishes.withoutBalancing) stopBalancing(isolated.cgroup, isolated.wishes.cpus)
      } catch (cause) {
        if (former) this.#live.set(id, former)
        else this.#live.delete(id)
        this.#resume(isolated)
        await this.#settle()
        if (cause instanceof RuntimeError) throw cause
        throw new RuntimeError('failed-precondition', `Cannot isolate the processors of container "${id}"`, { cause })
      }
    })
  }

  /** Once the container has ended. Never rejects. */
  end(id: string, isolated: Isolated): Promise<void> {
    return this.#inTurn(async () => {
      this.#live.delete(id)
      this.#resume(isolated)
      await this.#settleOrLog()
    })
  }

  /** At the daemon's start: these live, all others have ended. Never rejects. */
  restore(live: ReadonlyMap<string, Isolated>): Promise<void> {
    return this.#inTurn(async () => {
      for (const [id, isolated] of live) this.#live.set(id, isolated)
      await this.#settleOrLog()
    })
  }

  #inTurn(act: () => Promise<void>): Promise<void> {
    const done = this.#tail.then(act)
    this.#tail = done.catch(() => {})
    return done
  }

  async #settleOrLog(): Promise<void> {
    try {
      await this.#settle()
    } catch (error) {
      this.#options.log.error('Cannot put the settings of processors right', { why: messageOf(error) })
    }
  }

  async #settle(): Promise<void> {
    const wishes = [...this.#live.values()].map((each) => each.wishes)
    const wanted = wantedSettings(this.#options.roots, wishes, (path) => this.#originals.setting(path))
    this.#originals.keep(Object.fromEntries(wanted.map(({ path }) => [path, readKernelFile(path)?.trim() ?? ''])))
    for (const setting of wanted) this.#write(setting)
    const stale = this.#originals.paths().filter((path) => !wanted.some((setting) => setting.path === path))
    for (const path of stale) this.#write({ path, value: this.#originals.setting(path) ?? '', mayFail: true })
    this.#originals.forget(stale)
    await this.#settleIrqbalance(union(...wishes.map(({ withoutInterrupts }) => withoutInterrupts)))
  }

  #write({ path, value, mayFail }: Setting): void {
    if (readKernelFile(path)?.trim() === value) return
    try {
      writeKernelFile(path, value)
    } catch (error) {
      if (!mayFail) throw error
      this.#options.log.debug('A setting stays as it is', { path, why: messageOf(error) })
    }
  }

  async #settleIrqbalance(banned: CpuSet): Promise<void> {
    const { irqbalanceConfig: path, roots, restartIrqbalance, log } = this.#options
    if (banned.size === 0 && this.#originals.irqbalance === undefined) return
    if (!existsSync(path)) return this.#originals.keepIrqbalance(undefined)
    const text = readFileSync(path, 'utf8')
    if (this.#originals.irqbalance === undefined) this.#originals.keepIrqbalance(bannedIn(text))
    const before = this.#originals.irqbalance ?? null
    const like = readKernelFile(join(roots.irq, 'default_smp_affinity')) ?? ''
    const all = union(parseMask(before ?? '') ?? new Set(), banned)
    const fresh = withBanned(text, banned.size === 0 ? before : formatMask(all, like))
    if (fresh !== text) {
      writeFileAtomicSync(path, fresh, { mode: 0o644, durable: true })
      await restartIrqbalance().catch((error) => log.warn('Cannot restart irqbalance', { why: messageOf(error) }))
    }
    if (banned.size === 0) this.#originals.keepIrqbalance(undefined)
  }

  /** The container has none by its spec; the pod's would hold it back all the same. It goes with the pod. */
  #liftQuota({ cgroup, wishes }: Isolated): void {
    if (!wishes.withoutQuota) return
    const [file, value] = this.#options.cgroupVersion === 2 ? ['cpu.max', 'max'] : ['cpu.cfs_quota_us', '-1']
    if (dirname(cgroup) !== '/') writeCgroupFile('cpu', dirname(cgroup), file, value)
  }

  #resume({ cgroup, wishes }: Isolated): void {
    if (!wishes.withoutBalancing) return
    try {
      resumeBalancing(cgroup, wishes.cpus)
    } catch (error) {
      this.#options.log.error('Cannot give processors back to the scheduler', { cgroup, why: messageOf(error) })
    }
  }
}
