/**
 * Whether the container ended because memory was short: the kernel killed somebody in its cgroup together with its end. A child that
 * was killed an hour before does not make an OOM of the end. Counts are read while the cgroup is there.
 */
import { closeSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { type CgroupLayout, cgroupDirectory, cgroupLayout, oomKillCount } from '#linux/cgroup.ts'
import { makeEvent, readSome } from '#linux/descriptor.ts'
import { changed, readable } from '#linux/epoll.ts'
import { writeKernelFile } from '#linux/write-kernel-file.ts'
import type { Reactor } from './reactor.ts'

const SIGKILL = 9
/** Between the kernel's decision and the end of a process lies the release of its memory, all of it. */
const killWindowMs = 30_000
/** An init that ends by itself because its child was killed does so at once. */
const childWindowMs = 2000

export interface End {
  readonly code: number
  readonly signal: number
}

/** How one version of cgroups tells of kills. */
interface Events {
  readonly fd: number
  readonly interest: number
  /** Takes the event, so that it is told once; says whether there was one. */
  take(): boolean
  close(): void
}

export class OomWatch {
  readonly #reactor: Reactor
  readonly #path: string
  readonly #layout: CgroupLayout
  readonly #before: number
  #events: Events | undefined
  #kills: number
  #lastKillAt = Number.NEGATIVE_INFINITY

  /** @param path the container's cgroup as the host sees it */
  constructor(reactor: Reactor, path: string, layout = cgroupLayout()) {
    this.#reactor = reactor
    this.#path = path
    this.#layout = layout
    // What the runtime itself may have met with while it made the container.
    this.#before = oomKillCount(path, layout)
    this.#kills = this.#before
    this.#events = openEvents(path, layout)
    // systemd removes the cgroup as soon as it is empty: the count has to be known before.
    if (this.#events !== undefined) reactor.add(this.#events.fd, this.#events.interest, () => this.#look())
  }

  /** Whether this end, which has just been noticed, is the work of the kernel's OOM killer. */
  explains({ code, signal }: End): boolean {
    this.#look()
    if (code === 0 || this.#kills === this.#before) return false
    const window = signal === SIGKILL ? killWindowMs : childWindowMs
    return performance.now() - this.#lastKillAt <= window
  }

  close(): void {
    if (this.#events === undefined) return
    this.#reactor.remove(this.#events.fd)
    this.#events.close()
    this.#events = undefined
  }

  #look(): void {
    const told = this.#takeEvent()
    // 0 when the cgroup is gone: what was known stays true.
    const kills = Math.max(this.#kills, oomKillCount(this.#path, this.#layout))
    // With events of v1 the time is that of the event: a cgroup that the container has made inside its own has none here.
    if (told || (kills > this.#kills && !this.#isV1)) this.#lastKillAt = performance.now()
    this.#kills = kills
  }

  get #isV1(): boolean {
    return this.#events?.interest === readable
  }

  #takeEvent(): boolean {
    try {
      return this.#events?.take() ?? false
    } catch {
      // The cgroup has gone.
      this.close()
      return false
    }
  }
}

/** Undefined where the host has none to tell: then there are only the counts. */
function openEvents(path: string, layout: CgroupLayout): Events | undefined {
  const directory = cgroupDirectory('memory', path, layout)
  if (directory === undefined) return undefined
  try {
    return layout.controllers.get('memory') === layout.unified ? eventsOfV2(directory) : eventsOfV1(directory)
  } catch {
    return undefined
  }
}

/** A file that tells of its changes until it has been read from its beginning. A change need not be a kill. */
function eventsOfV2(directory: string): Events {
  const fd = openSync(join(directory, 'memory.events'), 'r')
  const text = Buffer.alloc(1024)
  const take = () => {
    readSync(fd, text, 0, text.length, 0)
    return false
  }
  return { fd, interest: changed, take, close: () => closeSync(fd) }
}

/** An event for each time that the cgroup as a whole is out of memory. */
function eventsOfV1(directory: string): Events {
  const control = openSync(join(directory, 'memory.oom_control'), 'r')
  const fd = makeEvent()
  const close = () => {
    closeSync(fd)
    closeSync(control)
  }
  try {
    writeKernelFile(join(directory, 'cgroup.event_control'), `${fd} ${control}`)
  } catch (error) {
    close()
    throw error
  }
  return { fd, interest: readable, take: () => readSome(fd, Buffer.alloc(8)) === 8, close }
}
