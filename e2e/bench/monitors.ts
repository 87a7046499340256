/** Two monitors as processes: ours (dist/bin/conmon, proto/conmon.ts) and CRI-O's in C (/usr/bin/conmon), with the same bundles and runc. */

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { join, resolve } from 'node:path'
import { Readable, Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { encodeMessage, FrameReader, frameTypes, type Request } from '#proto/conmon.ts'

const run = promisify(execFile)
export const RUNC = '/usr/sbin/runc'
const OURS = resolve(import.meta.dirname, '../../dist/bin/conmon')
const CRIOS = '/usr/bin/conmon'

/** A container under a monitor. */
export interface Monitored {
  readonly id: string
  readonly dir: string
  readonly logPath: string
  /** Of the monitor. */
  readonly pid: number
  /** Starts the container. */
  start(): Promise<void>
}

/** How to bring a container under a monitor, created and not started. */
export type Launch = (bundle: Bundle) => Promise<Monitored>

export interface Bundle {
  readonly id: string
  readonly dir: string
  readonly runcRoot: string
  readonly logPath: string
  readonly cgroup: string
}

/** A bundle of busybox that runs a shell command. */
export async function makeBundle(root: string, id: string, command: string): Promise<Bundle> {
  const dir = join(root, id)
  for (const name of ['bin', 'proc', 'dev', 'tmp']) await mkdir(join(dir, 'rootfs', name), { recursive: true })
  await copyFile('/bin/busybox', join(dir, 'rootfs/bin/busybox'))
  const cgroup = `/cricket-bench-monitor/${id}`
  const namespaces = ['mount', 'ipc', 'uts', 'network', 'pid'].map((type) => ({ type }))
  const spec = {
    ociVersion: '1.0.2',
    process: {
      user: { uid: 0, gid: 0 },
      args: ['/bin/busybox', 'sh', '-c', command],
      env: ['PATH=/bin'],
      cwd: '/',
    },
    root: { path: 'rootfs' },
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc' },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755'] },
    ],
    linux: { cgroupsPath: cgroup, namespaces },
  }
  await writeFile(join(dir, 'config.json'), JSON.stringify(spec))
  return { id, dir, cgroup, runcRoot: join(root, 'runc'), logPath: join(dir, 'log') }
}

/** What runc costs by itself. */
export async function runcAlone({ id, dir, runcRoot }: Bundle): Promise<void> {
  const args = ['--root', runcRoot, 'create', '--bundle', dir, '--pid-file', join(dir, 'pidfile'), id]
  const child = spawn(RUNC, args, { stdio: 'ignore' })
  await once(child, 'exit')
}

export async function removeContainer({ id, runcRoot }: Bundle): Promise<void> {
  await run(RUNC, ['--root', runcRoot, 'delete', '--force', id]).catch(() => {})
}

export async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

const pipeOf = (child: ChildProcess, index: number): Readable => {
  const pipe = child.stdio[index]
  if (pipe instanceof Readable) return pipe
  throw new Error(`descriptor ${index} is no pipe`)
}

/** As the daemon launches it (daemon/monitor/spawn-monitor.ts). */
const ours = (args: string[], ...more: 'pipe'[]) =>
  spawn(OURS, args, {
    stdio: ['ignore', 'ignore', 'ignore', 'pipe', ...more],
    env: { UV_THREADPOOL_SIZE: '2', BUN_JSC_useJIT: '0', BUN_GC_TIMER_DISABLE: '1' },
    cwd: '/',
    detached: true,
  })

/** Ours: launched, asked over its socket to create. */
export const launchOurs: Launch = (bundle) => createOver(bundle, async ({ dir }) => ours([dir, '--announce']))

/** One that was started before, and has settled. */
let spare: ChildProcess | undefined

/** Has one ready for the next creation; outside what is measured, as the daemon does it after a creation. */
export async function prepareSpare(): Promise<number> {
  spare ??= ours(['--spare', '-'.repeat(400)], 'pipe')
  await sleep(300)
  return spare.pid ?? 0
}

export const dropSpare = (): boolean => spare?.kill('SIGKILL') ?? false

/** Ours, not launched but told which container is its. */
export const adoptOurs: Launch = (bundle) =>
  createOver(bundle, async ({ dir }) => {
    const child = spare
    const orders = child?.stdio[4]
    if (!child || !(orders instanceof Writable)) throw new Error('no spare monitor')
    spare = undefined
    orders.end(`${dir}\n`)
    return child
  })

async function createOver(
  { id, dir, runcRoot, logPath, cgroup }: Bundle,
  begin: (bundle: { dir: string }) => Promise<ChildProcess>,
): Promise<Monitored> {
  const options = {
    id,
    cookie: 'bench',
    runtime: { path: RUNC, root: runcRoot, systemdCgroup: false },
    terminal: false,
    stdin: false,
    stdinOnce: false,
    logPath,
    cgroupPath: cgroup,
    sharedPidNamespace: false,
    createTimeoutMs: 60_000,
  }
  await writeFile(join(dir, 'options.json'), JSON.stringify(options), { mode: 0o600 })
  const child = await begin({ dir })
  const ready = pipeOf(child, 3)
  await once(ready, 'data')
  const socket = connect(join(dir, 'conmon.sock'))
  const client = new Asker(socket)
  await client.ask({ id: 1, request: 'create' })
  ready.destroy()
  return {
    id,
    dir,
    logPath,
    pid: child.pid ?? 0,
    start: async () => {
      await client.ask({ id: 2, request: 'start' })
      // A daemon that is not there: the monitor must not need one.
      socket.destroy()
    },
  }
}

class Asker {
  readonly #socket: Socket
  readonly #frames = new FrameReader()
  #answered: (reply: string) => void = () => {}

  constructor(socket: Socket) {
    this.#socket = socket
    socket.write(encodeMessage('hello', { protocol: 1, cookie: 'bench' }))
    socket.on('data', (bytes: Buffer) => {
      for (const { type, payload } of this.#frames.read(bytes)) {
        if (type === frameTypes.reply) this.#answered(payload.toString())
      }
    })
  }

  async ask(request: Request): Promise<void> {
    const answer = new Promise<string>((resolve) => {
      this.#answered = resolve
    })
    this.#socket.write(encodeMessage('request', request))
    const reply = await answer
    if (reply.includes('"failed"')) throw new Error(reply)
  }
}

/** CRI-O's, with the arguments CRI-O gives it; it forks away, says the container's pid on one pipe after a byte came on another. */
export const launchCrios: Launch = async ({ id, dir, runcRoot, logPath }) => {
  const exits = join(dir, 'exits')
  await mkdir(exits, { recursive: true })
  const pidFile = join(dir, 'conmon-pidfile')
  const args = [
    ...['-c', id, '-u', id, '-n', id, '-b', dir, '-r', RUNC, '-p', join(dir, 'pidfile'), '-P', pidFile],
    ...['-l', `k8s-file:${logPath}`, '--exit-dir', exits, '--socket-dir-path', exits, '--persist-dir', dir],
    ...['--log-level', 'error', '--api-version', '1', '--runtime-arg', `--root=${runcRoot}`],
  ]
  const child = spawn(CRIOS, args, {
    stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
    env: { _OCI_SYNCPIPE: '3', _OCI_STARTPIPE: '4', PATH: '/usr/bin:/usr/sbin' },
    cwd: '/',
  })
  const sync = pipeOf(child, 3)
  const go = child.stdio[4]
  if (!(go instanceof Writable)) throw new Error('no start pipe')
  go.write('\0')
  let said = ''
  while (!said.includes('\n')) said += String((await once(sync, 'data'))[0])
  if (!(JSON.parse(said).data > 0)) throw new Error(`conmon says ${said}`)
  while (!(await isThere(pidFile))) await sleep(1)
  const pid = Number(await readFile(pidFile, 'utf8'))
  return {
    id,
    dir,
    logPath,
    pid,
    start: async () => {
      await run(RUNC, ['--root', runcRoot, 'start', id])
      sync.destroy()
      go.destroy()
    },
  }
}
