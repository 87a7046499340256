/**
 * A site is what one test (or demonstration, or benchmark) owns on this machine: a directory for everything a runtime
 * keeps, a CNI network with its own bridge, subnet and address files, a cgroup. Any number of sites live side by side.
 */

import { execFileSync } from 'node:child_process'
import { randomBytes, randomInt } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findLeftovers, type Leftover, sweepLeftovers } from './leftovers.ts'

export interface Site {
  readonly id: string
  /** Short, because a unix socket's path has 107 bytes and a container id takes 64. */
  readonly dir: string
  readonly network: SiteNetwork
  readonly cgroupDriver: 'cgroupfs' | 'systemd'
  /** Parent of every pod's cgroup, as the kubelet would name it for the driver. */
  readonly cgroupParent: string
  /** Pods' log directories are made under it. */
  readonly logDir: string
  path(...parts: string[]): string
}

export interface SiteNetwork {
  readonly name: string
  readonly bridge: string
  /** `10.x.y`: a /24. */
  readonly prefix: string
  readonly configDir: string
  readonly binDirs: string[]
  /** Where host-local keeps one file per address in use. */
  readonly ipamDir: string
}

/** The virtual machine's tests choose systemd. */
const CGROUP_DRIVER = process.env.CRICKET_E2E_CGROUP_DRIVER === 'systemd' ? 'systemd' : 'cgroupfs'

/** Makes the directory and writes the CNI configuration: bridge, host-local, portmap. */
export async function createSite(): Promise<Site> {
  const dir = await mkdtemp(join(tmpdir(), 'ck-'))
  // Roots of pods with user namespaces are nobody on the host and have to pass through.
  await chmod(dir, 0o711)
  const id = randomBytes(3).toString('hex')
  const network: SiteNetwork = {
    name: `cricket-${id}`,
    bridge: `ck${id}`,
    prefix: freePrefix(),
    configDir: join(dir, 'cni'),
    binDirs: ['/usr/lib/cni', '/opt/cni/bin'].filter((path) => existsSync(path)),
    ipamDir: join(dir, 'ipam'),
  }
  const site: Site = {
    id,
    dir,
    network,
    cgroupDriver: CGROUP_DRIVER,
    cgroupParent: CGROUP_DRIVER === 'systemd' ? `cricket_e2e_${id}.slice` : `/cricket-e2e-${id}`,
    logDir: join(dir, 'logs'),
    path: (...parts) => join(dir, ...parts),
  }
  await mkdir(site.logDir)
  await mkdir(network.configDir)
  await writeFile(join(network.configDir, '10-pods.conflist'), cniConfig(network))
  return site
}

/** The network's configuration as a cluster's network add-on would leave it. */
export function cniConfig(network: SiteNetwork): string {
  return JSON.stringify(
    {
      cniVersion: '1.0.0',
      name: network.name,
      plugins: [
        {
          type: 'bridge',
          bridge: network.bridge,
          isGateway: true,
          ipMasq: true,
          hairpinMode: true,
          ipam: {
            type: 'host-local',
            dataDir: network.ipamDir,
            ranges: [[{ subnet: `${network.prefix}.0/24` }]],
            routes: [{ dst: '0.0.0.0/0' }],
          },
        },
        { type: 'portmap', capabilities: { portMappings: true }, snat: true },
      ],
    },
    null,
    2,
  )
}

/**
 * Removes the site and whatever is left in it, and returns what should not have been left. Runtimes have to be
 * stopped before. `CRICKET_E2E_KEEP=1` keeps the directory for looking.
 */
export async function removeSite(site: Site): Promise<Leftover[]> {
  const leftovers = await findLeftovers(site)
  await sweepLeftovers(site)
  if (process.env.CRICKET_E2E_KEEP === '1') console.error(`kept ${site.dir}`)
  else await rm(site.dir, { recursive: true, force: true })
  return leftovers
}

/** A /24 of 10.200.0.0/13 that no route of this machine touches, as first three bytes. */
function freePrefix(): string {
  const taken = routedPrefixes()
  for (;;) {
    const prefix = `10.${randomInt(200, 208)}.${randomInt(0, 256)}`
    if (!taken.has(prefix)) return prefix
  }
}

function routedPrefixes(): Set<string> {
  const [, ...lines] = readFileSync('/proc/net/route', 'utf8').trim().split('\n')
  return new Set(
    lines.map((line) => {
      const destination = Number.parseInt(line.split('\t')[1] ?? '0', 16)
      return [destination & 255, (destination >> 8) & 255, (destination >> 16) & 255].join('.')
    }),
  )
}

/** The host's static busybox: what test images and the demonstration's image are made of. */
export function findBusybox(): string {
  for (const path of ['/bin/busybox', '/usr/bin/busybox', '/sbin/busybox']) if (existsSync(path)) return path
  return execFileSync('sh', ['-c', 'command -v busybox'], { encoding: 'utf8' }).trim()
}
