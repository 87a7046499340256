/**
 * A command with a terminal. The OCI runtime makes the terminal inside the container and stays: it copies between that one and ours,
 * hands on sizes, and exits as the command does.
 */
import { accessSync, constants, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { startedOn } from '#linux/affinity.ts'
import type { TerminalChild } from '#linux/terminal-child.ts'
import { RuntimeError } from '#proto/errors.ts'
import type { Container } from '../../container/container.ts'
import { execAffinity } from '../../container/exec-affinity.ts'
import { hostCgroupPath } from '../../oci/cgroup-path.ts'
import { cannotRun } from '../../oci/complaint.ts'
import { terminalExecArguments, terminalProcess } from '../../oci/exec-command.ts'
import { nextPidFile, readPid, takePid } from '../../oci/pid-file.ts'
import { type ExecProgram, execPath, keepOn } from '../../oci/start-exec.ts'
import type { TerminalSize } from '../session.ts'
import { CommandLife } from './command.ts'
import type { ExecNeeds } from './exec.ts'
import { drainOutputs, forwardInput, Output } from './forward.ts'
import { readProcessSpec, refusalCode } from './refused-start.ts'
import type { Command } from './run-on-pipes.ts'

/** The runtime stays for as long as the command, so that its garbage has to be collected. */
const ENVIRONMENT = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' }
/** It holds the environment, and with it what pods are given as secrets. */
const OWN_NEW_FILE = { mode: 0o600, flag: 'wx' } as const
/** For clients that do not tell their own. */
const USUAL_SIZE: TerminalSize = { width: 80, height: 24 }
/** Clients with a terminal send its size at once; the others lose this once. */
const FIRST_SIZE_MS = 100

/** @returns the exit code; of no meaning once the signal has aborted */
export async function runInTerminal(needs: ExecNeeds, container: Container, command: Command): Promise<number> {
  const { record } = container
  const paths = needs.paths.container(record.id)
  const spec = await readProcessSpec(paths.spec)
  const pidFile = nextPidFile(paths.dir)
  const processFile = `${pidFile}.json`
  const sizes = command.streams.sizes[Symbol.asyncIterator]()
  const first = await firstSize(sizes)
  const program = needs.handlers.of(record)
  checkProgram(program)
  writeFileSync(processFile, JSON.stringify(terminalProcess(spec, command.command, first.size)), OWN_NEW_FILE)
  let terminal: TerminalChild | undefined
  try {
    const args = terminalExecArguments(program.root, { id: record.id, pidFile }, processFile)
    const cpus = execAffinity(needs, container)
    const start = () =>
      needs.linux.startInTerminal({ path: execPath(program), args, env: ENVIRONMENT, size: first.size })
    terminal = cpus === undefined ? start() : startedOn(cpus, start)
    const left = needs.children.leave(terminal.pid)
    void terminal.exited.finally(() => left[Symbol.dispose]())
    void followSizes(sizes, first.next, terminal)
    const code = await converse(needs, container, { ...command, terminal, pidFile, cpus })
    if (command.signal.aborted || takePid(pidFile) !== undefined) return code
    // What the runtime says is on the client's terminal already.
    const { status } = container
    if (status.state === 'running' && needs.linux.isAlive(status.init))
      return refusalCode(needs.linux, status.init, spec, command.command)
    throw new RuntimeError('failed-precondition', `Cannot run a command in container "${record.id}": it has ended`)
  } finally {
    terminal?.close()
    takePid(pidFile)
    rmSync(processFile, { force: true })
  }
}

interface FirstSize {
  readonly size: TerminalSize
  /** The one after it, or the one that has not come in time. */
  readonly next: Promise<IteratorResult<TerminalSize>>
}

async function firstSize(sizes: AsyncIterator<TerminalSize>): Promise<FirstSize> {
  const next = sizes.next()
  const late = new AbortController()
  const come = await Promise.race([
    next,
    delay(FIRST_SIZE_MS, undefined, { signal: late.signal }).catch(() => undefined),
  ])
  late.abort()
  if (come === undefined || come.done) return { size: USUAL_SIZE, next }
  return { size: come.value, next: sizes.next() }
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
  if (streams.stdin) forwardInput(streams.stdin, terminal.input, { isTerminal: true })
  const output = new Output(terminal.output, streams.stdout)
  // By then the runtime has moved it into the container's cgroup.
  terminal.output.once('data', () => {
    const pid = cpus && readPid(pidFile)
    if (cpus && pid !== undefined) keepOn(pid, cpus)
  })
  const exit = await life.endOf(terminal.exited)
  root = undefined
  await drainOutputs([output], signal)
  if (exit === undefined) return 255
  return exit.how === 'exited' ? exit.code : 128 + exit.signal
}

/** Never rejects, and ends with the session. */
async function followSizes(
  sizes: AsyncIterator<TerminalSize>,
  next: Promise<IteratorResult<TerminalSize>>,
  terminal: TerminalChild,
): Promise<void> {
  try {
    for (let size = await next; !size.done; size = await sizes.next()) terminal.resize(size.value)
  } catch {
    // The client has gone, which is told otherwise.
  }
}
