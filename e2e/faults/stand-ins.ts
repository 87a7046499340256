/** Programs that stand in for the OCI runtime, the CNI plugin and the monitor, and misbehave when a test tells them to. */

import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { readFile, rename, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

/** What goes wrong with one verb; `faulty.mjs` explains each word. */
export interface Fault {
  hang?: boolean
  only?: string
  delayMs?: number
  stdout?: string
  stderr?: string
  stderrBytes?: number
  signal?: NodeJS.Signals
  exit?: number
  after?: boolean
  pidFile?: string
  killInit?: boolean
}

export interface HelperCall {
  verb: string
  subject: string
  netns?: string
  pid: number
}

/** A helper program with a script. */
export class StandIn {
  readonly path: string
  readonly #script: string

  constructor(dir: string, name: string, real: string) {
    this.path = join(dir, name)
    this.#script = join(dir, `${name}.json`)
    writeFileSync(this.#script, '{}')
    const faulty = join(import.meta.dirname, 'faulty.mjs')
    writeFileSync(this.path, `#!/bin/sh\nexec '${process.execPath}' '${faulty}' '${this.#script}' '${real}' "$@"\n`, {
      mode: 0o755,
    })
  }

  /** From now on these verbs go wrong, and no others. */
  async misbehave(faults: Record<string, Fault>): Promise<void> {
    await writeFile(`${this.#script}.new`, JSON.stringify(faults))
    await rename(`${this.#script}.new`, this.#script)
  }

  /** Well behaved again; what hangs goes on. */
  heal(): Promise<void> {
    return this.misbehave({})
  }

  /** The calls so far, of this verb when one is given. */
  async calls(verb?: string): Promise<HelperCall[]> {
    const text = await readFile(`${this.#script}.calls`, 'utf8').catch(() => '')
    const all = text
      .split('\n')
      .filter(Boolean)
      .map((line): HelperCall => JSON.parse(line))
    return verb === undefined ? all : all.filter((call) => call.verb === verb)
  }
}

/** How a monitor can fail before it is of any use. */
export type MonitorMode = 'well' | 'exit' | 'hang' | 'flood' | 'silent' | 'mute'

const MONITOR = `#!/bin/sh
case "$(cat "$0.mode")" in
  exit) echo 'out of luck today' >&2; exit 3 ;;
  hang) sleep 987654; exit 1 ;;
  flood) head -c 10485760 /dev/zero | tr '\\0' x; exit 1 ;;
  silent) exec 3>&-; sleep 0.5; exit 1 ;;
  mute) printf '!{"half' >&3; sleep 987654; exit 1 ;;
esac
exec '@' "$@"
`

export class MonitorStandIn {
  readonly path: string

  constructor(dir: string) {
    this.path = join(dir, 'monitor')
    const real = resolve(import.meta.dirname, '../../dist/bin/conmon')
    writeFileSync(this.path, MONITOR.replace('@', real), { mode: 0o755 })
    writeFileSync(`${this.path}.mode`, 'well')
  }

  be(mode: MonitorMode): Promise<void> {
    return writeFile(`${this.path}.mode`, mode)
  }
}

export interface StandIns {
  readonly runtime: StandIn
  /** Stands in front of the bridge plugin. */
  readonly plugin: StandIn
  readonly monitor: MonitorStandIn
  /** Where the plugin's stand-in lies: goes before the real directories. */
  readonly binDir: string
  /** All are well behaved again. */
  heal(): Promise<void>
  remove(): void
}

const firstOf = (paths: string[]): string => paths.find((path) => existsSync(path)) ?? paths[0] ?? ''

export function makeStandIns(): StandIns {
  const dir = mkdtempSync(join(tmpdir(), 'ck-standins-'))
  const runtime = new StandIn(dir, 'runc', firstOf(['/usr/sbin/runc', '/usr/bin/runc']))
  const plugin = new StandIn(dir, 'bridge', firstOf(['/opt/cni/bin/bridge', '/usr/lib/cni/bridge']))
  const monitor = new MonitorStandIn(dir)
  return {
    runtime,
    plugin,
    monitor,
    binDir: dir,
    heal: async () => void (await Promise.all([runtime.heal(), plugin.heal(), monitor.be('well')])),
    remove: () => rmSync(dir, { recursive: true, force: true }),
  }
}
