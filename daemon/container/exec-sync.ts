/**
 * ExecSync: run a command in a container to its end and hand back its output. A child of the daemon, without a monitor
 * (design D4): the kubelet does this for every probe.
 *
 * The answer waits for the command, not for what it left running in the background with its output open: once nothing more
 * has come for two tenths of a second, and after five seconds at the latest, reading ends (`output-pipe.ts`). containerd
 * waits for ever unless it is configured not to, and so fails probes that start a daemon.
 */
import { RuntimeError } from '#proto/errors.ts'
import { nextPidFile } from '../oci/pid-file.ts'
import { type ExecResult, runExec } from '../oci/run-exec.ts'
import type { Parts } from '../parts.ts'
import type { Container } from './container.ts'
import { Cut } from './cut-short.ts'
import type { DecideNeeds } from './decided-resources.ts'
import { execAffinity } from './exec-affinity.ts'
import { runningContainer } from './running-container.ts'

export type ExecNeeds = DecideNeeds & Pick<Parts, 'children' | 'containers' | 'linux' | 'paths'>

/**
 * What fits into the 16 MiB that the kubelet takes in one message, both streams together; the rest is read and thrown away
 * (api.proto, ExecSyncResponse).
 */
const maxOutput = 16 * 1024 * 1024 - 1024

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
  const container = runningContainer(needs, idOrPrefix, 'run a command in')
  return output(await run(needs, container, { command, timeoutSeconds, signal }))
}

interface Run {
  readonly command: readonly string[]
  readonly timeoutSeconds: bigint
  readonly signal: AbortSignal | undefined
}

async function run(needs: ExecNeeds, container: Container, request: Run): Promise<ExecResult> {
  const { id } = container.record
  const { command, timeoutSeconds, signal } = request
  const cut = new Cut(needs.linux)
  const late = () =>
    new RuntimeError('deadline-exceeded', `Command in container "${id}" took longer than ${timeoutSeconds} s`)
  const onAbort = () => cut.now(signal?.reason)
  if (timeoutSeconds > 0n) cut.after(Number(timeoutSeconds) * 1000, late)
  signal?.addEventListener('abort', onAbort, { once: true })
  try {
    const pidFile = nextPidFile(needs.paths.container(id).dir)
    const result = runExec(needs.handlers.of(container.record), needs.children, {
      id,
      command,
      pidFile,
      maxOutput,
      cpus: execAffinity(needs, container),
      root: (pid) => cut.isRoot(pid),
      ended: () => cut.inTime(),
    })
    return await cut.orResult(result)
  } finally {
    cut.inTime()
    signal?.removeEventListener('abort', onAbort)
  }
}

const output = ({ exit, stdout, stderr }: ExecResult): ExecSyncOutput => ({
  stdout,
  stderr: stderr.subarray(0, maxOutput - stdout.length),
  exitCode: exit.how === 'exited' ? exit.code : 128 + exit.signal,
})
