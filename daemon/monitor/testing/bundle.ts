/** A container's state directory for tests: a bundle that is nothing but busybox, where the monitor will write. */
import { copyFileSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface BundleInput {
  readonly args: readonly string[]
  readonly terminal: boolean
  readonly user: number
  readonly cgroupsPath: string
  readonly hostPidNamespace: boolean
  readonly memoryBytes?: number
  /** The state directory's name is longer than a socket address. */
  readonly longName: boolean
}

const mount = (destination: string, type: string, options: readonly string[] = []) => ({
  destination,
  type,
  source: type,
  options,
})

/** Makes the directory and returns its path. */
export function makeBundle(input: BundleInput): string {
  const dir = mkdtempSync(join(tmpdir(), `cricket-monitor-${input.longName ? 'x'.repeat(120) : ''}`))
  for (const name of ['bin', 'proc', 'dev', 'tmp']) mkdirSync(join(dir, 'rootfs', name), { recursive: true })
  copyFileSync('/bin/busybox', join(dir, 'rootfs/bin/busybox'))
  writeFileSync(join(dir, 'config.json'), JSON.stringify(specOf(input)), { mode: 0o600 })
  return dir
}

const specOf = ({ args, terminal, user, cgroupsPath, hostPidNamespace, memoryBytes }: BundleInput) => ({
  ociVersion: '1.0.2',
  process: {
    terminal,
    user: { uid: user, gid: user },
    args,
    env: ['PATH=/bin'],
    cwd: '/',
    noNewPrivileges: true,
    capabilities: {},
  },
  root: { path: 'rootfs', readonly: false },
  hostname: 'test',
  mounts: [
    mount('/proc', 'proc'),
    mount('/dev', 'tmpfs', ['nosuid', 'mode=755']),
    mount('/dev/pts', 'devpts', ['newinstance', 'ptmxmode=0666', 'mode=0620']),
  ],
  linux: {
    cgroupsPath,
    ...(memoryBytes !== undefined && { resources: { memory: { limit: memoryBytes } } }),
    namespaces: ['mount', 'ipc', 'uts', 'network', ...(hostPidNamespace ? [] : ['pid'])].map((type) => ({ type })),
  },
})
