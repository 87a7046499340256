/** A container's standard streams seen from its monitor: pipes or a terminal, chosen once. */
import type { StreamName } from '../log/cri-log.ts'
import type { ContainerInput } from './container-input.ts'

/** Where output goes. */
export interface Output {
  /** The bytes are good only during the call. */
  write(stream: StreamName, bytes: Buffer): void
  /** Nothing more waits to be read just now. */
  flush(): void
}

export interface ContainerStdio {
  /** What the runtime's create has as its descriptors 0, 1 and 2; the container gets the same when it has no terminal. */
  readonly runtimeStdio: readonly [number, number, number]
  /** What is to be added to the runtime's create. */
  readonly runtimeArguments: readonly string[]
  /** The runtime runs: let go of what is the container's now. */
  handOver(): void
  /** The container exists: read its output from now on. */
  begin(): Promise<void>
  /** The beginning of what a runtime that failed wrote. */
  complaint(): Buffer
  /** Reads to the end of the output, or until `timeoutMs` are over because somebody outside the container holds it open; says which. */
  drain(timeoutMs: number): Promise<boolean>
  /** Does not read output for a while: the container has to wait. */
  hold(hold: boolean): void
  /** The container's input; undefined when it has none, and before `begin`. */
  readonly input: ContainerInput | undefined
  /** The container reads the end of its input, after what it was sent. Nothing happens where there is no input, or a terminal. */
  closeInput(): void
  /** @throws MonitorFailure failed-precondition without a terminal */
  resize(size: { width: number; height: number }): void
  /** Lets go of everything. Idempotent. */
  close(): void
}
