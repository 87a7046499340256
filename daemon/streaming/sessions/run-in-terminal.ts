/**
 * A command with a terminal. The OCI runtime makes the terminal inside the container and stays: it copies between that one and ours,
 * hands on sizes, and exits as the command does.
 */
import { accessSync, constants } from 'node:fs'
import { startedOn } from '#linux/affinity.ts'
import type { TerminalChild } from '#linux/terminal-child.ts'
import { RuntimeError } from '#proto/errors.ts'
import type { Container } from '../../container/container.ts'
import { execAffinity } from '../../container/exec-affinity.ts'
import { hostCgroupPath } from '../../oci/cgroup-path.ts'
import { cannotRun } from '../../oci/complaint.ts'
import { terminalExecArguments } from '../../oci/exec-command.ts'
import { nextPidFile, readPid, takePid } from '../../oci/pid-file.ts'
import { type ExecProgram, execPath, keepOn } from '../../oci/start-exec.ts'
import type { RemoteStreams, TerminalSize } from '../session.ts'
import { CommandLife } from './command.ts'
import type { ExecNeeds } from './exec.ts'
import { drainOutputs, forwardInput, Output } from './forward.ts'
import { readProcessSpec, refusalCode } from './refused-start.ts'
import type { Command } from './run-on-pipes.ts'

/** The runtime stays for as long as the command, so that its garbage has to be collected. */
const ENVIRONMENT = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' }
/** Until the client tells its own, which it does before anything is printed. */
const FIRST_SIZE: TerminalSize = { width: 80, height: 24 }

/** @returns the exit code; of no meaning once the signal has aborted */
export async function runInTerminal(needs: ExecNeeds, container: Container, command: Command): Promise<number> {
  const { record } = container
  const paths = needs.paths.container(record.id)
  const spec = await readProcessSpec(paths.spec)
  const pidFile = nextPidFile(paths.dir)
  const program = needs.handlers.of(record)
  checkProgram(program)
  const env = spec.env.some((entry) => entry.startsWith('TERM=')) ? [] : ['TERM=xterm']
  const words = { id: record.id, command: command.command, pidFile }
  const args = terminalExecArguments(program.root, words, env)
  const cpus = execAffinity(needs, container)
  const start = () => needs.linux.startInTerminal({ path: execPath(program), args, env: ENVIRONMENT, size: FIRST_SIZE })
  const terminal = cpus === undefined ? start() : startedOn(cpus, start)
  const left = needs.children.leave(terminal.pid)
  void terminal.exited.finally(() => left[Symbol.dispose]())
  try {
    const code = await converse(needs, container, { ...command, terminal, pidFile, cpus })
    if (command.signal.aborted || takePid(pidFile) !== undefined) return code
    // What the runtime says is on the client's terminal already.
    const { status } = container
    if (status.state === 'running' && needs.linux.isAlive(status.init))
      return refusalCode(needs.linux, status.init, spec, command.command)
    throw new RuntimeError('failed-precondition', `Cannot run a command in container "${record.id}": it has ended`)
  } finally {
    terminal.close()
    takePid(pidFile)
  }
}

/** On a terminal the kernel would say so, in words of its own. @throws RuntimeError failed-precondition */
function checkProgram({ path }: ExecProgram): void {
  try {
    accessSync(path, constants.X_OK)
  } catch (cause) {
    throw cannotRun(path, cause)
  }
}

interface Conversation extends Command {
  readonly terminal: TerminalChild
  readonly pidFile: string
  readonly cpus: ReadonlySet<number> | undefined
}

/** Until the runtime has ended and its terminal is read to the end. */
async function converse(
  needs: ExecNeeds,
  { record }: Container,
  { streams, signal, terminal, pidFile, cpus }: Conversation,
): Promise<number> {
  let root: number | undefined = terminal.pid
  const cgroup = hostCgroupPath(record.cgroupsPath)
  using life = new CommandLife(needs.linux, signal, () => {
    const leader = readPid(pidFile)
    const files = leader === undefined ? [] : needs.linux.openFilesOf(leader)
    return { root, leader, cgroup, streams: new Set(files.filter((name) => name.startsWith('/dev/pts/'))) }
  })
  const sizes = new AbortController()
  void followSizes(streams.sizes, terminal, sizes.signal)
  if (streams.stdin) forwardInput(streams.stdin, terminal.input, { isTerminal: true })
  const output = new Output(terminal.output, streams.stdout)
  // By then the runtime has moved it into the container's cgroup.
  terminal.output.once('data', () => {
    const pid = cpus && readPid(pidFile)
    if (cpus && pid !== undefined) keepOn(pid, cpus)
  })
  try {
    const exit = await life.endOf(terminal.exited)
    root = undefined
    await drainOutputs([output], signal)
    if (exit === undefined) return 255
    return exit.how === 'exited' ? exit.code : 128 + exit.signal
  } finally {
    sizes.abort()
  }
}

/** Never rejects. Sizes that come before the runtime looks are those that the command begins with. */
async function followSizes(sizes: RemoteStreams['sizes'], terminal: TerminalChild, over: AbortSignal): Promise<void> {
  try {
    for await (const size of sizes) {
      if (over.aborted) return
      terminal.resize(size)
    }
  } catch {
    // The client has gone, which is told otherwise.
  }
}
