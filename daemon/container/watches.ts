/** The live containers: the connection to each one's monitor, and who waits for its end. */
import type { ContainerId } from '../ids.ts'
import type { MonitorClient } from '../monitor/monitor-client.ts'

interface Watch {
  /** undefined while the monitor does not answer. */
  readonly client: MonitorClient | undefined
  readonly ended: Promise<void>
}

/** The containers whose end is awaited. */
export class Watches {
  readonly #watches = new Map<ContainerId, Watch>()

  begin(id: ContainerId, client: MonitorClient | undefined, ended: Promise<void>): void {
    const watch = { client, ended }
    this.#watches.set(id, watch)
    void ended.finally(() => {
      if (this.#watches.get(id) === watch) this.#watches.delete(id)
    })
  }

  /** Whether its end is awaited. */
  has(id: ContainerId): boolean {
    return this.#watches.has(id)
  }

  /** The connection to a live container's monitor. */
  client(id: ContainerId): MonitorClient | undefined {
    return this.#watches.get(id)?.client
  }

  /** Resolves once the container's exit is recorded; at once when nothing runs. */
  ended(id: ContainerId): Promise<void> {
    return this.#watches.get(id)?.ended ?? Promise.resolve()
  }

  /** Drop every connection; the monitors go on without us. */
  close(): void {
    for (const { client } of this.#watches.values()) client?.close()
    this.#watches.clear()
  }
}
