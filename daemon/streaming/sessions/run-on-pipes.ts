/** A command without a terminal: a child of the daemon on real pipes, without a runtime process beside it (decision 0009). */
import { text } from 'node:stream/consumers'
import type { CommandExit } from '#linux/run-command.ts'
import { ReadablePipe, WritablePipe } from '#linux/stream-pipes.ts'
import { RuntimeError } from '#proto/errors.ts'
import type { Container } from '../../container/container.ts'
import { execAffinity } from '../../container/exec-affinity.ts'
import { hostCgroupPath } from '../../oci/cgroup-path.ts'
import { describeExit, sanitise } from '../../oci/complaint.ts'
import { nextPidFile } from '../../oci/pid-file.ts'
import { startExec } from '../../oci/start-exec.ts'
import type { RemoteStreams } from '../session.ts'
import { CommandLife } from './command.ts'
import type { ExecNeeds } from './exec.ts'
import { drainOutputs, forwardInput, Output } from './forward.ts'
import { readProcessSpec, refusalCode } from './refused-start.ts'

export interface Command {
  readonly command: readonly string[]
  readonly streams: RemoteStreams
  /** Aborts: the command is killed. */
  readonly signal: AbortSignal
}

/** @returns the exit code; of no meaning once the signal has aborted */
export async function runOnPipes(needs: ExecNeeds, container: Container, command: Command): Promise<number> {
  const { streams, signal } = command
  using pipes = new Pipes(streams.stdin !== undefined)
  let root: number | undefined
  let leader: number | undefined
  const cgroup = hostCgroupPath(container.record.cgroupsPath)
  using life = new CommandLife(needs.linux, signal, () => ({ root, leader, cgroup, streams: pipes.names }))
  using _ = needs.children.expect()
  const { id } = container.record
  const pidFile = nextPidFile(needs.paths.container(id).dir)
  const { stdin, stdout, stderr } = pipes
  const start = await startExec(
    needs.handlers.of(container.record),
    { id, command: command.command, pidFile },
    {
      ...{ children: needs.children, stdin, stdout, stderr },
      root: (pid) => {
        root = pid
      },
      cpus: execAffinity(needs, container),
    },
  )
  if (start.how === 'refused') return await refused(needs, container, command, { stderr, exit: start.exit })
  leader = start.pid
  life.killIfAborted()
  const ended = needs.children.wait(start.pid)
  if (stdin && streams.stdin) forwardInput(streams.stdin, stdin.stream, { isTerminal: false })
  const outputs = [new Output(stdout.stream, streams.stdout), new Output(stderr.stream, streams.stderr)]
  const exit = await life.endOf(ended)
  root = undefined
  stdin?.close()
  await drainOutputs(outputs, signal)
  if (exit === undefined) return 255
  return exit.how === 'exited' ? exit.code : 128 + exit.signal
}

/** The pipes of one command. A stream that was not asked for is one, too: its reader throws all away. */
class Pipes {
  readonly stdin: WritablePipe | undefined
  readonly stdout: ReadablePipe
  readonly stderr: ReadablePipe
  /** By these its processes are found when they have left its tree. */
  readonly names: ReadonlySet<string>
  readonly #made: { close(): void }[] = []

  constructor(withInput: boolean) {
    try {
      this.stdin = withInput ? this.#made1(new WritablePipe()) : undefined
      this.stdout = this.#made1(new ReadablePipe())
      this.stderr = this.#made1(new ReadablePipe())
    } catch (error) {
      this[Symbol.dispose]()
      throw error
    }
    this.names = new Set([this.stdin, this.stdout, this.stderr].flatMap((pipe) => pipe?.name ?? []))
  }

  #made1<T extends { close(): void }>(pipe: T): T {
    this.#made.push(pipe)
    return pipe
  }

  [Symbol.dispose](): void {
    for (const pipe of this.#made) pipe.close()
  }
}

interface Refusal {
  readonly stderr: ReadablePipe
  readonly exit: CommandExit
}

/** @throws RuntimeError failed-precondition when it is not the command that is at fault, or nobody is there to read the text */
async function refused(
  needs: ExecNeeds,
  container: Container,
  { command, streams }: Command,
  { stderr, exit }: Refusal,
): Promise<number> {
  const why = sanitise(Buffer.from(await text(stderr.stream))) || describeExit(exit)
  const { record, status } = container
  const mayTell = exit.how === 'exited' && status.state === 'running' && needs.linux.isAlive(status.init)
  if (!mayTell || streams.stderr === undefined)
    throw new RuntimeError('failed-precondition', `Cannot run a command in container "${record.id}": ${why}`)
  streams.stderr.on('error', () => {})
  streams.stderr.write(`${why}\n`)
  return refusalCode(needs.linux, status.init, await readProcessSpec(needs.paths.container(record.id).spec), command)
}
