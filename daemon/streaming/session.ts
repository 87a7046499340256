/**
 * The words between the transports (SPDY, WebSocket) and what runs behind them: what was asked for, the streams a client
 * brought, and the three things a backend can do. Nothing here knows HTTP, and nothing processes.
 */
import type { Duplex, Readable, Writable } from 'node:stream'

/** One registered request: what Exec, Attach and PortForward of the CRI give away a URL for. Ids are whole, never prefixes. */
export type StreamRequest =
  | {
      kind: 'exec'
      containerId: string
      command: readonly string[]
      tty: boolean
      stdin: boolean
      stdout: boolean
      stderr: boolean
    }
  | { kind: 'attach'; containerId: string; tty: boolean; stdin: boolean; stdout: boolean; stderr: boolean }
  | {
      kind: 'port-forward'
      sandboxId: string
      /** PortForwardRequest.port: only WebSocket clients with a channel per port need it; others name ports later. */
      ports?: readonly number[]
    }

export type ExecRequest = Extract<StreamRequest, { kind: 'exec' }>
export type AttachRequest = Extract<StreamRequest, { kind: 'attach' }>
export type PortForwardRequest = Extract<StreamRequest, { kind: 'port-forward' }>

/** In character cells, 1 to 65535 each. */
export interface TerminalSize {
  width: number
  height: number
}

/**
 * What a client brought; a stream that is absent was not asked for. `stdin` ends when the client closes its half; `stdout` and
 * `stderr` honour back-pressure (`write` returns false until 'drain') and the transport ends them when the session is over, so
 * a backend may leave them open. All are destroyed with an error when the client is gone.
 */
export interface RemoteStreams {
  stdin?: Readable
  stdout?: Writable
  stderr?: Writable
  /** The sizes of the client's terminal; one that was not yet taken is replaced by a newer one. Ends with the session. */
  sizes: AsyncIterable<TerminalSize>
}

/** How a process ended; one that died of signal n has the code 128 + n. */
export interface ExecEnd {
  how: 'exited'
  code: number
}

/** What the transports need from the rest of the daemon. */
export interface StreamBackend {
  /**
   * Resolves after the process ended and all its output was written. `signal` aborts when the client left, the idle timeout
   * passed or the server drains: the whole process tree is killed then.
   * @throws RuntimeError (not-found, failed-precondition …): the client is shown it as a failed status
   */
  exec(request: ExecRequest, streams: RemoteStreams, signal: AbortSignal): Promise<ExecEnd>

  /**
   * Resolves when the container's output ended or the client's side is over.
   * @throws RuntimeError: the client is shown it as a failed status
   */
  attach(request: AttachRequest, streams: RemoteStreams, signal: AbortSignal): Promise<void>

  /**
   * A connected socket, which owns the memory of each chunk that it reads, to localhost:`port` inside the pod's network namespace, IPv4 first, then IPv6. It may half-close.
   * @throws RuntimeError: shown on this connection's error stream alone
   */
  connect(sandboxId: string, port: number, signal: AbortSignal): Promise<Duplex>
}
