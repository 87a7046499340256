/** Which children libuv waits for, so that the reaper leaves them alone. Node only: Bun does not publish its children. */
import type { ChildProcess } from 'node:child_process'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'

export interface OwnChildren {
  /** The children that Node started since and that have not been seen to end. */
  pids(): Set<number>
  /** Stops watching. */
  close(): void
}

const CHANNEL = 'child_process'

const processOf = (message: unknown): ChildProcess | undefined => {
  const isMessage = typeof message === 'object' && message !== null && 'process' in message
  return isMessage ? (message.process as ChildProcess) : undefined
}

/** Watches which children `node:child_process` starts, whoever asks for them. Begin before the first one. */
export const watchOwnChildren = (): OwnChildren => {
  const living = new Set<ChildProcess>()
  const started = (message: unknown) => {
    const child = processOf(message)
    if (child === undefined) return
    living.add(child)
    const gone = () => living.delete(child)
    child.once('exit', gone)
    // A child that could not start never exits. The listener must not swallow the error of those that listen for none.
    child.prependListener('close', gone)
  }
  subscribe(CHANNEL, started)
  return {
    // The pid comes a moment after the message.
    pids: () => new Set([...living].flatMap(({ pid }) => pid ?? [])),
    close: () => void unsubscribe(CHANNEL, started),
  }
}
