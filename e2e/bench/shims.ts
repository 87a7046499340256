/**
 * containerd's shim as a monitor, through Debian's containerd and `ctr`. It copies the output to a file as it is: with the CRI it is
 * containerd itself that reads it and makes records, so what the shim costs here is less than the work that conmon does.
 */

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { type Bundle, isThere, type Launch } from './monitors.ts'

const run = promisify(execFile)
const namespace = 'bench'

/** A containerd without its CRI, everything of its own in one directory. */
export class Shims {
  readonly #dir: string
  readonly #socket: string
  #daemon: ChildProcess | undefined

  constructor(root: string) {
    this.#dir = join(root, 'containerd')
    this.#socket = join(this.#dir, 'socket')
  }

  async begin(): Promise<void> {
    await mkdir(this.#dir)
    const config = join(this.#dir, 'config.toml')
    await writeFile(
      config,
      `version = 2
root = "${this.#dir}/root"
state = "${this.#dir}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "${this.#socket}"
`,
    )
    this.#daemon = spawn('containerd', ['--config', config], { stdio: 'ignore' })
    for (let waited = 0; waited < 20_000; waited += 50) {
      if (await this.#ctr(['version']).then(...yesOrNo)) return
      await sleep(50)
    }
    throw new Error('containerd does not answer')
  }

  readonly launch: Launch = async ({ id, dir, logPath }: Bundle) => {
    const spec = JSON.parse(await readFile(join(dir, 'config.json'), 'utf8'))
    const config = join(dir, 'for-containerd.json')
    await writeFile(config, JSON.stringify({ ...spec, root: { path: join(dir, 'rootfs') } }))
    await this.#ctr(['containers', 'create', '--config', config, id])
    await this.#ctr(['tasks', 'start', '--detach', '--log-uri', `file://${logPath}`, id])
    return { id, dir, logPath, pid: await this.#shimOf(id), start: async () => {} }
  }

  async remove({ id }: Bundle): Promise<void> {
    await this.#ctr(['tasks', 'delete', '--force', id]).catch(() => {})
    await this.#ctr(['containers', 'delete', id]).catch(() => {})
  }

  async end(): Promise<void> {
    this.#daemon?.kill()
    for (let waited = 0; this.#daemon?.exitCode === null && waited < 5000; waited += 50) await sleep(50)
  }

  #ctr(args: string[]) {
    return run('ctr', ['--address', this.#socket, '--namespace', namespace, ...args])
  }

  async #shimOf(id: string): Promise<number> {
    for (const name of await readdir('/proc')) {
      if (!/^\d+$/.test(name) || !(await isThere(`/proc/${name}`))) continue
      const words = (await readFile(`/proc/${name}/cmdline`, 'latin1').catch(() => '')).split('\0')
      if (words[0]?.includes('containerd-shim') && words.includes(id)) return Number(name)
    }
    throw new Error(`no shim of ${id}`)
  }
}

const yesOrNo = [() => true, () => false] as const
