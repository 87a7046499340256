/** Bundles with a busybox rootfs, for tests that let the real runtime judge a spec. */
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { probeHost } from '#linux/host-facts.ts'
import { killCgroup } from '#linux/kill-cgroup.ts'
import { linux } from '#linux/linux.ts'
import { runCommand } from '#linux/run-command.ts'
import { type RuntimeCli, runtimeCli } from '../../runtime-cli.ts'
import { specHost } from '../../spec-host.ts'
import { containerSpec } from '../container-spec.ts'
import { readUserFiles } from '../rootfs-user.ts'
import { type CaseRequest, specInput } from './spec-case.ts'

export const RUNC = '/usr/sbin/runc'
const BUSYBOX = '/bin/busybox'
const APPLETS =
  'sh id cat ls mount sleep echo env hostname mkdir rm readlink pwd true false stat unshare kill wc touch ps'

/** A place for bundles and the runtime's state that cleans up after itself. */
export class Bundles implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'cricket-oci-'))
  readonly root = join(this.directory, 'state')
  readonly cli: RuntimeCli = runtimeCli({ path: RUNC, root: this.root })
  readonly host = specHost(probeHost())
  readonly #ids: string[] = []

  /** A name for something that will be cleaned up. */
  own(what: string): string {
    const id = `cricket-${what}-${process.pid}-${this.#ids.length}`
    this.#ids.push(id)
    return id
  }

  cgroup(id: string): string {
    return `/cricket-oci-test/${id}`
  }

  /** Write the bundle of a container; its command is a shell script. */
  make(
    script: string,
    request: CaseRequest = {},
  ): { readonly id: string; readonly bundle: string; readonly rootfs: string } {
    const id = this.own('container')
    const bundle = join(this.directory, id)
    const rootfs = join(bundle, 'rootfs')
    makeRootfs(rootfs)
    const input = specInput({
      ...request,
      container: { command: ['/bin/sh', '-c', script], ...request.container },
      host: { ...this.host, ...request.host },
      input: {
        namespaces: { net: 'new', ipc: 'new', uts: 'new', pid: 'new' },
        etcFiles: {},
        rootfs: { path: rootfs, ...readUserFiles(linux, rootfs) },
        cgroupsPath: this.cgroup(id),
        ...request.input,
      },
    })
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(containerSpec({ ...input, id }).spec))
    return { id, bundle, rootfs }
  }

  /** Run the script to its end as a container. */
  async run(script: string, request: CaseRequest = {}): Promise<{ code: number; stdout: string; stderr: string }> {
    const { id, bundle } = this.make(script, request)
    const result = await runCommand(RUNC, ['--root', this.root, 'run', '--bundle', bundle, id], { timeoutMs: 60_000 })
    const code = result.exit.how === 'exited' ? result.exit.code : 128 + result.exit.signal
    return { code, stdout: result.stdout.toString(), stderr: result.stderr.toString() }
  }

  /** Run it in the background. */
  async start(script: string, request: CaseRequest = {}): Promise<string> {
    const { id } = this.make(script, request)
    await this.launch(id)
    return id
  }

  /** Start a bundle that is written, in the background; its output must not keep us waiting. */
  async launch(id: string): Promise<void> {
    const bundle = join(this.directory, id)
    const log = join(bundle, 'log')
    const result = await runCommand('/bin/sh', [
      '-c',
      `exec "$0" --root "$1" run --detach --bundle "$2" "$3" </dev/null >"${log}" 2>&1`,
      RUNC,
      this.root,
      bundle,
      id,
    ])
    if (result.exit.how !== 'exited' || result.exit.code !== 0) {
      throw new Error(`runc run: ${readFileSync(log, 'utf8')}`)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const id of this.#ids) {
      await this.cli.delete(id, { force: true })
      await killCgroup(this.cgroup(id))
      linux.removeCgroup(this.cgroup(id))
    }
    linux.removeCgroup('/cricket-oci-test')
    rmSync(this.directory, { recursive: true, force: true })
  }
}

const makeRootfs = (rootfs: string): void => {
  for (const name of ['bin', 'etc', 'proc', 'dev', 'sys', 'tmp']) mkdirSync(join(rootfs, name), { recursive: true })
  copyFileSync(BUSYBOX, join(rootfs, 'bin/busybox'))
  for (const name of APPLETS.split(' ')) symlinkSync('busybox', join(rootfs, 'bin', name))
  writeFileSync(join(rootfs, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n')
  writeFileSync(join(rootfs, 'etc/group'), 'root:x:0:\naudio:x:29:app\n')
}
