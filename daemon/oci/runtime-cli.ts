/**
 * The command line of an OCI runtime as typed calls. Whether a container exists is read from the runtime's state
 * directory, and what it does from `state`; the words of an error message decide nothing.
 */
import { closeSync, writeSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import * as z from 'zod'
import { isErrno } from '#linux/errno.ts'
import { makePipe } from '#linux/pipes.ts'
import { type CommandResult, runCommand } from '#linux/run-command.ts'
import { RuntimeError } from '#proto/errors.ts'
import { cannotRun, describeExit, sanitise } from './complaint.ts'
import { parseFeatures, type RuntimeFeatures } from './runtime-features.ts'
import type { OciResources } from './spec/types.ts'

/** Which program, and where it keeps its state. */
export interface RuntimeProgram {
  readonly path: string
  readonly root: string
}

export interface RuntimeState {
  readonly id: string
  readonly status: 'creating' | 'created' | 'running' | 'stopped' | 'paused'
  /** 0 once it is stopped. */
  readonly pid: number
  readonly bundle: string
}

export interface RuntimeCli {
  /** undefined: the runtime does not know the container. */
  state(id: string, signal?: AbortSignal): Promise<RuntimeState | undefined>
  list(signal?: AbortSignal): Promise<RuntimeState[]>
  /** @returns whether the signal was sent; false when the container is not there, or has ended */
  kill(id: string, signal: string | number, options?: { all?: boolean }): Promise<boolean>
  /** Forget a container and remove its cgroup; `force` kills it first. Nothing happens when it is not known. */
  delete(id: string, options?: { force?: boolean }): Promise<void>
  /** @throws RuntimeError not-found, or failed-precondition when the runtime cannot apply them */
  update(id: string, resources: OciResources): Promise<void>
  /**
   * Have CRIU write the memory of a container, which goes on as it was, to `imageDir`. @throws RuntimeError failed-precondition with the
   * runtime's words, deadline-exceeded, cancelled
   */
  checkpoint(id: string, options: CheckpointOptions): Promise<void>
  /** undefined: the runtime has no such command. */
  features(): Promise<RuntimeFeatures | undefined>
}

export interface CheckpointOptions {
  readonly imageDir: string
  /** Where CRIU writes its log, `dump.log`. */
  readonly workDir: string
  /** The path of CRIU. */
  readonly criu: string
  readonly signal: AbortSignal
}

/** Long enough for a runtime on a node that is short of everything; a hang still ends. */
const CALL_TIMEOUT_MS = 60_000
/** It is asked at the daemon's start, and prints what it knows. */
const FEATURES_TIMEOUT_MS = 5_000
const MAX_LIST_BYTES = 16 * 1024 * 1024

export const runtimeCli = (program: RuntimeProgram): RuntimeCli => {
  const call: Call = (args, options) =>
    runProgram(program.path, ['--root', program.root, ...args], { timeoutMs: CALL_TIMEOUT_MS, ...options })
  return {
    state: (id, signal) => state(program, call, id, signal),
    list: (signal) => list(call, signal),
    kill: (id, signal, options) => kill(program, call, { id, signal: String(signal), all: options?.all ?? false }),
    delete: (id, options) => remove(program, call, id, options?.force ?? false),
    update: (id, resources) => update(program, call, id, resources),
    checkpoint: (id, options) => checkpoint(program, id, options),
    features: () => features(program),
  }
}

/** @throws RuntimeError failed-precondition when the program is not there or none, besides what `runCommand` throws */
const runProgram: typeof runCommand = async (path, args, options) => {
  try {
    return await runCommand(path, args, options)
  } catch (cause) {
    throw cannotRun(path, cause)
  }
}

type Call = (args: readonly string[], options?: Parameters<typeof runCommand>[2]) => Promise<CommandResult>

const stateSchema = z.object({
  id: z.string(),
  status: z.enum(['creating', 'created', 'running', 'stopped', 'paused']),
  pid: z.int().min(0).default(0),
  bundle: z.string(),
})

/** Both runc and crun have one directory for each container that they know. */
const isKnown = async ({ root }: RuntimeProgram, id: string): Promise<boolean> => {
  try {
    return (await stat(join(root, id))).isDirectory()
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return false
    throw error
  }
}

const succeeded = ({ exit }: CommandResult): boolean => exit.how === 'exited' && exit.code === 0

const failure = (what: string, { exit, stderr }: CommandResult): RuntimeError =>
  new RuntimeError('failed-precondition', `${what}: ${sanitise(stderr) || describeExit(exit)}`)

const state = async (program: RuntimeProgram, call: Call, id: string, signal?: AbortSignal) => {
  if (!(await isKnown(program, id))) return undefined
  const result = await call(['state', id], { ...(signal && { signal }) })
  if (succeeded(result)) return parse(stateSchema, result, `state of container "${id}"`)
  // The directory of a creation that broke off holds no state yet: there is no container.
  const stillKnown = (await isKnown(program, id)) && (await hasState(program, id))
  if (!stillKnown) return undefined
  throw failure(`Cannot read the state of container "${id}"`, result)
}

/** runc's file, or crun's. */
const hasState = async ({ root }: RuntimeProgram, id: string): Promise<boolean> => {
  for (const name of ['state.json', 'status']) {
    const found = await stat(join(root, id, name)).catch(() => undefined)
    if (found) return true
  }
  return false
}

const list = async (call: Call, signal?: AbortSignal): Promise<RuntimeState[]> => {
  const result = await call(['list', '--format', 'json'], { maxOutput: MAX_LIST_BYTES, ...(signal && { signal }) })
  if (!succeeded(result)) throw failure('Cannot list the containers of the OCI runtime', result)
  // runc prints null when there is none.
  return parse(z.array(stateSchema).nullable(), result, 'list of containers') ?? []
}

const parse = <T extends z.ZodType>(schema: T, { stdout }: CommandResult, what: string): z.output<T> => {
  try {
    return schema.parse(JSON.parse(stdout.toString()))
  } catch (cause) {
    throw new RuntimeError('internal', `The OCI runtime printed a malformed ${what}`, { cause })
  }
}

const kill = async (
  program: RuntimeProgram,
  call: Call,
  { id, signal, all }: { id: string; signal: string; all: boolean },
): Promise<boolean> => {
  if (!(await isKnown(program, id))) return false
  const result = await call(['kill', ...(all ? ['--all'] : []), id, signal])
  if (succeeded(result)) return true
  const now = await state(program, call, id)
  if (!now || now.status === 'stopped') return false
  throw failure(`Cannot send signal "${signal}" to container "${id}"`, result)
}

const remove = async (program: RuntimeProgram, call: Call, id: string, force: boolean): Promise<void> => {
  if (!(await isKnown(program, id))) return
  const result = await call(['delete', ...(force ? ['--force'] : []), id])
  if (!succeeded(result) && (await isKnown(program, id))) {
    throw failure(`Cannot delete container "${id}" from the OCI runtime`, result)
  }
}

const update = async (program: RuntimeProgram, call: Call, id: string, resources: OciResources): Promise<void> => {
  const result = await withInput(JSON.stringify(resources), (stdin) =>
    call(['update', '--resources', '-', id], { stdin }),
  )
  if (succeeded(result)) return
  if (!(await isKnown(program, id))) throw new RuntimeError('not-found', `The OCI runtime knows no container "${id}"`)
  throw failure(`Cannot update the resources of container "${id}"`, result)
}

/** What a pipe takes without a reader. */
const PIPE_BYTES = 64 * 1024

/** crun opens /dev/stdin by its name, which only a real pipe allows. */
const withInput = async <T>(text: string, use: (stdin: number) => Promise<T>): Promise<T> => {
  const bytes = Buffer.from(text)
  if (bytes.length > PIPE_BYTES) throw new RuntimeError('invalid-argument', `The resources need ${bytes.length} bytes`)
  const { read, write } = makePipe()
  try {
    try {
      writeSync(write, bytes)
    } finally {
      closeSync(write)
    }
    return await use(read)
  } finally {
    closeSync(read)
  }
}

/** Runtimes look for CRIU on their path. */
const checkpoint = async (
  { path, root }: RuntimeProgram,
  id: string,
  { imageDir, workDir, criu, signal }: CheckpointOptions,
): Promise<void> => {
  const where = ['--image-path', imageDir, '--work-path', workDir]
  const args = ['--root', root, 'checkpoint', ...where, '--leave-running', '--file-locks', '--tcp-established', id]
  const env = { PATH: `${dirname(criu)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin` }
  const result = await runProgram(path, args, { env, signal })
  if (!succeeded(result)) throw failure(`Cannot checkpoint container "${id}"`, result)
}

const features = async ({ path }: RuntimeProgram): Promise<RuntimeFeatures | undefined> => {
  const result = await runProgram(path, ['features'], { timeoutMs: FEATURES_TIMEOUT_MS })
  if (!succeeded(result)) return undefined
  try {
    return parseFeatures(result.stdout.toString())
  } catch (cause) {
    throw new RuntimeError('internal', `"${path} features" printed something malformed`, { cause })
  }
}
