/** Whether the kernel killed something of the container for want of memory. Counts are read while the cgroup is there. */
import { closeSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { cgroupDirectory, cgroupLayout, oomKillCount } from '#linux/cgroup.ts'
import { changed } from '#linux/epoll.ts'
import { isErrno } from '#linux/errno.ts'
import type { Reactor } from './reactor.ts'

export class OomWatch {
  readonly #reactor: Reactor
  readonly #path: string
  #kills = 0
  #events: number | undefined

  /** @param path the container's cgroup as the host sees it */
  constructor(reactor: Reactor, path: string) {
    this.#reactor = reactor
    this.#path = path
    this.#events = openEvents(path)
    // systemd removes the cgroup as soon as it is empty: the count has to be known before.
    if (this.#events !== undefined) reactor.add(this.#events, changed, () => this.#count())
  }

  /** Whether there was such a kill in the container's whole life. */
  hasKilled(): boolean {
    this.#count()
    return this.#kills > 0
  }

  close(): void {
    if (this.#events === undefined) return
    this.#reactor.remove(this.#events)
    closeSync(this.#events)
    this.#events = undefined
  }

  #count(): void {
    this.#kills = Math.max(this.#kills, oomKillCount(this.#path))
    if (this.#events === undefined) return
    try {
      // The kernel reports a change until the file has been read from its beginning.
      readSync(this.#events, Buffer.alloc(1024), 0, 1024, 0)
    } catch (error) {
      if (!isErrno(error, 'ENODEV')) throw error
      this.close()
    }
  }
}

/** The v2 file that tells of changes; undefined on v1, where cgroups stay until the runtime removes them. */
function openEvents(path: string): number | undefined {
  const layout = cgroupLayout()
  const directory = cgroupDirectory('memory', path, layout)
  if (directory === undefined || layout.controllers.get('memory') !== layout.unified) return undefined
  try {
    return openSync(join(directory, 'memory.events'), 'r')
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
}
