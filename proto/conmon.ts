/**
 * What the daemon and a container's monitor say to each other, and the files of a monitor's directory. Monitors outlive
 * daemons: fields and words are only ever added, unknown ones are ignored, and `docs/monitor-protocol.md` says it in prose.
 */

/** Raised when an older side could not go on by ignoring what it does not know. */
export const protocolVersion = 1

/** The files of one monitor, all inside the container's state directory. */
export const monitorFiles = {
  options: 'options.json',
  socket: 'conmon.sock',
  pid: 'pidfile',
  exitRecord: 'exit.json',
  exitRecordSpare: 'exit.json.spare',
  log: 'conmon.log',
  runtimeLog: 'runtime.log',
  consoleSocket: 'console.sock',
} as const

/** On the command line after the directory: write one byte to `readyDescriptor` once you can be connected to. */
export const announceFlag = '--announce'
export const readyDescriptor = 3

/**
 * On the command line instead of the directory, followed by an argument that leaves room for one: the directory comes as a line on
 * `ordersDescriptor`, whose end is the end of the monitor. It then announces itself.
 */
export const spareFlag = '--spare'
export const ordersDescriptor = 4
/** Bytes of the directory's path. */
export const longestAdoptedDir = 400

/** What a monitor is told when it is launched; it reads the file before it does anything else. */
export interface MonitorOptions {
  readonly id: string
  /** Whoever knows it may speak to the monitor. */
  readonly cookie: string
  readonly runtime: { readonly path: string; readonly root: string; readonly systemdCgroup: boolean }
  readonly terminal: boolean
  readonly stdin: boolean
  readonly stdinOnce: boolean
  /** Absolute. Without it the output is read and dropped. Its directory must exist. */
  readonly logPath?: string
  /** A directory above `logPath` that is trusted: below it no link is followed. The log's own directory when not given. */
  readonly logDirectory?: string
  /** Send each line to the journal as well. */
  readonly journal?: boolean
  /** Further fields of the journal's entries, for instance CONTAINER_NAME. */
  readonly journalFields?: Readonly<Record<string, string>>
  /**
   * How many files the container may have open (soft limit), for containers whose spec has no limit: the monitor's engine raises its
   * own, and so do runtimes in Go, and they hand it on. When not given the runtime gets 1024 and makes of it what it will.
   */
  readonly openFiles?: number
  /** The cgroup the monitor is born in ("/cricket-monitors"); made when missing. Its launcher's when not given. */
  readonly monitorCgroup?: string
  /** The monitor's own score, lowered as far as the host allows; -1000 when not given. The container does not inherit it. */
  readonly oomScoreAdj?: number
  /** The cgroupsPath of the container's OCI spec. */
  readonly cgroupPath: string
  /** The end of init does not end the other processes: the monitor kills the rest of the cgroup. */
  readonly sharedPidNamespace: boolean
  readonly createTimeoutMs: number
  /** Set: `create` restores the container from a checkpoint, so that it runs at once and needs no `start`. */
  readonly restore?: RestoreOptions
}

/** Absolute paths. */
export interface RestoreOptions {
  /** What CRIU wrote when the checkpoint was made. */
  readonly images: string
  /** Where CRIU writes its log, `restore.log`. */
  readonly work: string
  /** The program. */
  readonly criu: string
}

/** A process that cannot be mistaken for a later one with the same pid. `startTime` is in clock ticks since boot, decimal. */
export interface InitProcess {
  readonly pid: number
  readonly startTime: string
}

/** The words for what went wrong; a subset of the kinds of `proto/errors.ts`. */
export type FailureKind =
  | 'invalid-argument'
  | 'failed-precondition'
  | 'permission-denied'
  | 'deadline-exceeded'
  | 'resource-exhausted'
  | 'unimplemented'
  | 'unavailable'
  | 'internal'

export interface Failure {
  readonly kind: FailureKind
  readonly message: string
}

/** First frame of a connection, client → monitor. */
export interface Hello {
  readonly protocol: number
  readonly cookie: string
}

/** Answer to a good hello. A bad one gets a failure reply with id 0 and the connection is closed. */
export interface Welcome {
  readonly protocol: number
  readonly pid: number
  readonly status: MonitorStatus
}

export type Request = { readonly id: number } & (
  | { readonly request: 'create' }
  | { readonly request: 'start' }
  | { readonly request: 'status' }
  /** Not to be carried out after `notAfter` (CLOCK_MONOTONIC, milliseconds): whoever asked has given up, and counts on no new file. */
  | { readonly request: 'reopen-log'; readonly notAfter?: number }
  | { readonly request: 'resize'; readonly width: number; readonly height: number }
  | { readonly request: 'close-stdin' }
  | { readonly request: 'attach'; readonly stdin: boolean; readonly stdout: boolean; readonly stderr: boolean }
  | { readonly request: 'shutdown' }
)

export type Reply = { readonly id: number } & (
  | { readonly reply: 'done' }
  | { readonly reply: 'created'; readonly init: InitProcess }
  | { readonly reply: 'status'; readonly status: MonitorStatus }
  | { readonly reply: 'failed'; readonly failure: Failure }
)

/** Sent unasked: `exited` to every client, `dropped` to an attached one that did not read, as the last frame before the end. */
export type Event =
  | { readonly event: 'exited'; readonly record: WireExitRecord }
  | { readonly event: 'dropped'; readonly message: string }

/** Where the container's life stands, as its monitor sees it. */
export type MonitorStatus = {
  readonly bytesLogged: number
  readonly bytesLost: number
} & (
  | { readonly state: 'launched' }
  | { readonly state: 'creating' }
  | {
      readonly state: 'alive'
      readonly init: InitProcess
      readonly started: boolean
      readonly startedAtUnixNs?: string
    }
  | { readonly state: 'ending'; readonly init: InitProcess }
  | { readonly state: 'ended'; readonly record: WireExitRecord }
)

/** How a container ended (design §3.3). */
export interface ExitRecord {
  readonly id: string
  readonly pid: number
  /** Clock ticks since boot. */
  readonly startTime: bigint
  readonly bootId: string
  /** The exit code, 128 + signal, or 255 when nobody knows; never 0 unless init exited with 0. */
  readonly code: number
  /** The number of the signal that ended init; 0 when none did. */
  readonly signal: number
  readonly oomKilled: boolean
  /** When the runtime's start returned; absent when the container was never started. */
  readonly startedAtUnixNs?: bigint
  readonly finishedAtUnixNs: bigint
  /** Bytes of output that reached the log file, without the marks around them. */
  readonly bytesLogged: number
  readonly bytesLost: number
  /** How many records the journal did not take; absent when there were none. They are in the log file. */
  readonly journalLost?: number
  /** Present when the exit could not be observed: why. */
  readonly unknown?: string
}

/** An exit record as JSON has it: 64-bit numbers in decimal. */
export type WireExitRecord = Omit<ExitRecord, 'startTime' | 'startedAtUnixNs' | 'finishedAtUnixNs'> & {
  readonly startTime: string
  readonly startedAtUnixNs?: string
  readonly finishedAtUnixNs: string
}

export const exitRecordToWire = ({ startedAtUnixNs, ...record }: ExitRecord): WireExitRecord => ({
  ...record,
  startTime: String(record.startTime),
  ...(startedAtUnixNs !== undefined && { startedAtUnixNs: String(startedAtUnixNs) }),
  finishedAtUnixNs: String(record.finishedAtUnixNs),
})

export const exitRecordFromWire = ({ startedAtUnixNs, ...wire }: WireExitRecord): ExitRecord => ({
  ...wire,
  startTime: BigInt(wire.startTime),
  ...(startedAtUnixNs !== undefined && { startedAtUnixNs: BigInt(startedAtUnixNs) }),
  finishedAtUnixNs: BigInt(wire.finishedAtUnixNs),
})

/** Output and input are sent as raw bytes, everything else as JSON. An empty `stdin` frame is the end of the client's input. */
export const frameTypes = {
  hello: 1,
  welcome: 2,
  request: 3,
  reply: 4,
  event: 5,
  stdin: 16,
  stdout: 17,
  stderr: 18,
} as const

export type FrameType = (typeof frameTypes)[keyof typeof frameTypes]

export interface Frame {
  /** A plain number: frames of unknown types are skipped by the receiver. */
  readonly type: number
  readonly payload: Buffer
}

export const frameHeaderBytes = 5
/** No payload is longer; a header that says otherwise ends the connection. */
export const maxPayloadBytes = 64 * 1024

/** One frame: u32 payload length (big endian), u8 type, payload. */
export function encodeFrame(type: FrameType, payload: Uint8Array): Buffer {
  if (payload.length > maxPayloadBytes) throw new RangeError(`frame payload of ${payload.length} bytes is too long`)
  const frame = Buffer.allocUnsafe(frameHeaderBytes + payload.length)
  frame.writeUInt32BE(payload.length, 0)
  frame[4] = type
  frame.set(payload, frameHeaderBytes)
  return frame
}

export function encodeMessage(type: 'hello', message: Hello): Buffer
export function encodeMessage(type: 'welcome', message: Welcome): Buffer
export function encodeMessage(type: 'request', message: Request): Buffer
export function encodeMessage(type: 'reply', message: Reply): Buffer
export function encodeMessage(type: 'event', message: Event): Buffer
export function encodeMessage(type: keyof typeof frameTypes, message: object): Buffer {
  return encodeFrame(frameTypes[type], Buffer.from(JSON.stringify(message)))
}

/**
 * Cuts a byte stream into frames. Holds at most one unfinished frame.
 * @throws RangeError for a frame that is too long: the stream cannot be followed any further
 */
export class FrameReader {
  #held: Buffer = Buffer.alloc(0)

  /** The frames that `bytes` completes. Payloads are copies: the caller may reuse `bytes`. */
  read(bytes: Uint8Array): Frame[] {
    const all = Buffer.concat([this.#held, bytes])
    const frames: Frame[] = []
    let start = 0
    while (all.length - start >= frameHeaderBytes) {
      const length = all.readUInt32BE(start)
      if (length > maxPayloadBytes) throw new RangeError(`frame of ${length} bytes is longer than ${maxPayloadBytes}`)
      const end = start + frameHeaderBytes + length
      if (end > all.length) break
      frames.push({ type: all.readUInt8(start + 4), payload: all.subarray(start + frameHeaderBytes, end) })
      start = end
    }
    this.#held = all.subarray(start)
    return frames
  }
}

/** What a JSON payload says, or undefined when it is not a JSON object. */
export function decodeObject(payload: Uint8Array): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).toString())
    return typeof value === 'object' && value !== null ? { ...value } : undefined
  } catch {
    return undefined
  }
}
