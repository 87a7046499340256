/**
 * Tells of the system calls that the seccomp profiles of containers refuse, and stops the containers that want to be stopped for
 * it. The listener of a filter lives in this process: after a restart of the daemon such calls are refused by the kernel (ENOSYS) and
 * nobody is told any more.
 */
import { closeSync, unlinkSync } from 'node:fs'
import { Epoll } from '#linux/epoll.ts'
import { acceptListener, isOver, refuseCall, watchListener } from '#linux/seccomp-listener.ts'
import { listenUnix } from '#linux/unix-socket.ts'
import { messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { callName } from './call-name.ts'

export type NotifierAction = 'log' | 'stop'

/** How long a refused call may wait for its answer, at most; nothing is looked at while there are no such containers. */
const LOOK_EVERY_MS = 20
/** From the last refused call to the stop, so that all are told that belong together. */
const STOP_AFTER_MS = 5_000

interface Watched {
  readonly id: string
  readonly action: NotifierAction
  readonly path: string
  readonly socket: number
  listener?: number
  readonly calls: Map<string, number>
  timer?: NodeJS.Timeout
  isStopped: boolean
}

export class SeccompNotifier {
  readonly #log: Log
  readonly #watched = new Map<string, Watched>()
  #epoll: Epoll | undefined
  #timer: NodeJS.Timeout | undefined
  #stop: (id: string) => Promise<void> = async () => {}

  constructor(log: Log) {
    this.#log = log
  }

  /** Who stops a container. */
  onStop(stop: (id: string) => Promise<void>): void {
    this.#stop = stop
  }

  /** Before the OCI runtime makes the container. @param path where it hands over the listener */
  watch(id: string, path: string, action: NotifierAction): void {
    this.forget(id)
    const socket = listenUnix(path)
    this.#watched.set(id, { id, action, path, socket, calls: new Map(), isStopped: false })
    this.#timer ??= setInterval(() => this.#look(), LOOK_EVERY_MS).unref()
  }

  /** The container has ended, or was never made. */
  forget(id: string): void {
    const watched = this.#watched.get(id)
    if (!watched) return
    this.#watched.delete(id)
    clearTimeout(watched.timer)
    closeSync(watched.socket)
    this.#closeListener(watched)
    try {
      unlinkSync(watched.path)
    } catch {
      // Its directory may be gone already.
    }
    if (this.#watched.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
    this.#epoll?.close()
    this.#epoll = undefined
  }

  /** Why a container was stopped here, in words; undefined when it was not. */
  verdict(id: string): string | undefined {
    const watched = this.#watched.get(id)
    return watched?.isStopped ? `Used refused system calls: ${told(watched)}` : undefined
  }

  #look(): void {
    for (const watched of this.#watched.values()) if (watched.listener === undefined) this.#accept(watched)
    if (!this.#epoll) return
    const count = this.#epoll.wait(0)
    const ready = Array.from({ length: count }, (_, index) => [this.#epoll?.fdAt(index), this.#epoll?.eventsAt(index)])
    for (const [fd, events = 0] of ready) {
      const watched = [...this.#watched.values()].find(({ listener }) => listener === fd)
      if (watched) this.#serve(watched, events)
    }
  }

  #accept(watched: Watched): void {
    try {
      const listener = acceptListener(watched.socket, closeSync)
      if (listener === undefined) return
      watched.listener = listener
      this.#epoll ??= new Epoll()
      watchListener(this.#epoll, listener)
    } catch (error) {
      this.#log.warn('Cannot take the seccomp listener of a container yet', {
        container: watched.id,
        why: messageOf(error),
      })
    }
  }

  #serve(watched: Watched, events: number): void {
    if (isOver(events)) {
      this.#closeListener(watched)
      return
    }
    try {
      const call = watched.listener === undefined ? undefined : refuseCall(watched.listener)
      if (call) this.#note(watched, callName(call.number, call.machine), call.pid)
    } catch (error) {
      this.#log.warn('Cannot answer a refused system call', { container: watched.id, why: messageOf(error) })
      this.#closeListener(watched)
    }
  }

  #note(watched: Watched, name: string, pid: number): void {
    const times = (watched.calls.get(name) ?? 0) + 1
    watched.calls.set(name, times)
    // The first of each is worth a line; the rest is in the sum.
    if (times === 1)
      this.#log.warn('A container used a refused system call', { container: watched.id, call: name, pid })
    if (watched.action !== 'stop') return
    clearTimeout(watched.timer)
    watched.timer = setTimeout(() => this.#end(watched), STOP_AFTER_MS).unref()
  }

  #end(watched: Watched): void {
    watched.isStopped = true
    this.#log.warn('Stopping a container for refused system calls', { container: watched.id, calls: told(watched) })
    this.#stop(watched.id).catch((error) =>
      this.#log.error('Cannot stop a container', { container: watched.id, why: messageOf(error) }),
    )
  }

  #closeListener(watched: Watched): void {
    if (watched.listener === undefined) return
    this.#epoll?.remove(watched.listener)
    closeSync(watched.listener)
    delete watched.listener
  }
}

const told = ({ calls }: Watched): string =>
  [...calls]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, times]) => `${name} (${times}x)`)
    .join(', ')
