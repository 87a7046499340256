/**
 * Whether the container ended because memory was short: the kernel killed somebody in its cgroup together with its end. A child that
 * was killed an hour before does not make an OOM of the end.
 */
import { closeSync, openSync, readSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type CgroupLayout, cgroupDirectory, cgroupLayout, oomKillCount, readCgroupFile } from '#linux/cgroup.ts'
import { makeEvent, readSome } from '#linux/descriptor.ts'
import { changed, readable } from '#linux/epoll.ts'
import { writeKernelFile } from '#linux/write-kernel-file.ts'

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

/** What is asked of the reactor. */
interface Loop {
  add(fd: number, interest: number, ready: () => void): void
  remove(fd: number): void
}

export class OomWatch {
  readonly #reactor: Loop
  readonly #path: string
  readonly #layout: CgroupLayout
  readonly #before: number
  /** The pod's cgroup, where a kill is counted as well. */
  readonly #pod: string
  /** Kills in the pod that were not in this container. */
  #elsewhere = 0
  #events: Events[]
  #kills: number
  #lastKillAt = Number.NEGATIVE_INFINITY

  /** @param path the container's cgroup as the host sees it */
  constructor(reactor: Loop, path: string, layout = cgroupLayout()) {
    this.#reactor = reactor
    this.#path = path
    this.#layout = layout
    this.#pod = podOf(path)
    // What the runtime itself may have met with while it made the container.
    this.#before = this.#count()
    this.#kills = this.#before
    // An event in the pod that is not ours tells how much of its count is not.
    const watched = isV2(layout) ? [path, this.#pod] : [path]
    this.#events = watched.flatMap((each) => openEvents(each, layout) ?? [])
    for (const { fd, interest } of this.#events) reactor.add(fd, interest, () => this.#look())
  }

  /** Whether this end, which has just been noticed, is the work of the kernel's OOM killer. */
  explains({ code, signal }: End): boolean {
    this.#look()
    if (code === 0 || this.#kills === this.#before) return false
    const window = signal === SIGKILL ? killWindowMs : childWindowMs
    return performance.now() - this.#lastKillAt <= window
  }

  close(): void {
    for (const events of [...this.#events]) this.#stop(events)
  }

  #stop(events: Events): void {
    this.#events = this.#events.filter((each) => each !== events)
    this.#reactor.remove(events.fd)
    events.close()
  }

  #look(): void {
    const told = this.#takeEvents()
    const kills = Math.max(this.#kills, this.#count())
    // With events of v1 the time is that of the event: a cgroup that the container has made inside its own has none here.
    if (told || (kills > this.#kills && isV2(this.#layout))) this.#lastKillAt = performance.now()
    this.#kills = kills
  }

  /**
   * systemd removes the container's cgroup as soon as it is empty, often before the event of the kill that emptied it has arrived.
   * The pod's stays: what was added to its count since the last look, and to nobody else's, was ours.
   */
  #count(): number {
    const own = oomKillCount(this.#path, this.#layout)
    if (!isV2(this.#layout)) return own
    const inPod = oomKillCount(this.#pod, this.#layout)
    if (readCgroupFile('memory', this.#path, 'memory.events', this.#layout) === undefined)
      return inPod - this.#elsewhere
    // A kill between the two readings would be taken for somebody else's; it has an event to come.
    if (oomKillCount(this.#path, this.#layout) === own) this.#elsewhere = inPod - own
    return own
  }

  /** Whether one told of a kill by itself. */
  #takeEvents(): boolean {
    let told = false
    for (const events of [...this.#events]) {
      try {
        told = events.take() || told
      } catch {
        // The cgroup has gone.
        this.#stop(events)
      }
    }
    return told
  }
}

const isV2 = ({ controllers, unified }: CgroupLayout): boolean => controllers.get('memory') === unified

/** One above the container's cgroup; crun makes one more inside the scope, which goes with it. */
const podOf = (path: string): string => {
  const above = dirname(path)
  return above.endsWith('.scope') ? dirname(above) : above
}

/** Undefined where the host has none to tell: then there are only the counts. */
function openEvents(path: string, layout: CgroupLayout): Events | undefined {
  const directory = cgroupDirectory('memory', path, layout)
  if (directory === undefined) return undefined
  try {
    return isV2(layout) ? eventsOfV2(directory) : eventsOfV1(directory)
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
