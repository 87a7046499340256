/**
 * ExecSync: run a command in a container to its end and hand back its output. A child of the daemon, without a monitor
 * (design D4): the kubelet does this for every probe.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { RuntimeError } from '#proto/errors.ts'
import { type ExecResult, runtimeCli } from '../oci/runtime-cli.ts'
import type { Parts } from '../parts.ts'
import type { Container } from './container.ts'
import { killTree } from './kill-tree.ts'

export type ExecNeeds = Pick<Parts, 'containers' | 'handlers' | 'linux' | 'log' | 'paths'>

/** Each stream is cut here; the rest is read and thrown away (api.proto, ExecSyncResponse). */
const maxOutput = 16 * 1024 * 1024

export interface ExecSyncOutput {
  readonly stdout: Buffer
  readonly stderr: Buffer
  readonly exitCode: number
}

/**
 * @param timeoutSeconds 0 or less: no limit
 * @throws RuntimeError not-found, failed-precondition (not running), deadline-exceeded once every process is killed
 */
export async function execSync(
  needs: ExecNeeds,
  idOrPrefix: string,
  command: readonly string[],
  timeoutSeconds: bigint,
  signal?: AbortSignal,
): Promise<ExecSyncOutput> {
  if (command.length === 0) throw new RuntimeError('invalid-argument', 'ExecSync: cmd is empty')
  const container = running(needs, idOrPrefix)
  const dir = await mkdtemp(join(needs.paths.container(container.record.id).dir, 'exec-'))
  try {
    return output(await run(needs, container, { command, dir, timeoutSeconds, signal }))
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

function running(needs: ExecNeeds, idOrPrefix: string): Container {
  const container = needs.containers.require(idOrPrefix)
  const { state } = container.status
  if (state === 'running') return container
  throw new RuntimeError(
    'failed-precondition',
    `Cannot run a command in container "${container.record.id}": it is ${state}`,
  )
}

interface Run {
  readonly command: readonly string[]
  readonly dir: string
  readonly timeoutSeconds: bigint
  readonly signal: AbortSignal | undefined
}

/** The longest wait that Node's timers can hold, which is 24 days. */
const longestTimerMs = 2 ** 31 - 1

async function run(
  needs: ExecNeeds,
  container: Container,
  { command, dir, timeoutSeconds, signal }: Run,
): Promise<ExecResult> {
  const { id, runtimeHandler } = container.record
  const pidFile = join(dir, 'pid')
  const late = new RuntimeError(
    'deadline-exceeded',
    `Command in container "${id}" took longer than ${timeoutSeconds} s`,
  )
  const ending = new AbortController()
  const end = async (why: unknown) => {
    // The processes of the command first: killing the runtime alone would leave them behind in the container.
    await killTree(needs.linux, pidFile)
    ending.abort(why)
  }
  const onAbort = () => void end(signal?.reason)
  signal?.addEventListener('abort', onAbort, { once: true })
  const timer =
    timeoutSeconds > 0n
      ? setTimeout(() => void end(late), Math.min(Number(timeoutSeconds) * 1000, longestTimerMs))
      : undefined
  try {
    const cli = runtimeCli(needs.handlers.resolve(runtimeHandler))
    return await cli.exec({ id, command, pidFile, maxOutput, signal: ending.signal })
  } catch (error) {
    ending.signal.throwIfAborted()
    throw error
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', onAbort)
  }
}

const output = ({ exit, stdout, stderr }: ExecResult): ExecSyncOutput => ({
  stdout,
  stderr,
  exitCode: exit.how === 'exited' ? exit.code : 128 + exit.signal,
})
