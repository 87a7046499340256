/**
 * Looks for everything a runtime may leave on the host: mounts, namespace pins, processes, cgroups, links, packet
 * filter rules, addresses. A thing belongs to a site when it carries the site's directory, network or cgroup in its
 * name, so sites do not see each other.
 */

import { createHash } from 'node:crypto'
import { readdir, readFile, readlink, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { execa } from 'execa'
import type { Site } from './site.ts'

/** Host tools, by absolute search path; whoever may fail says `reject: false`. */
const run = execa({ cwd: '/', extendEnv: false, env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } })
const tryRun = run({ reject: false })

export interface Leftover {
  kind: 'mount' | 'process' | 'cgroup' | 'link' | 'rule' | 'address'
  what: string
}

/**
 * Everything of the site that is there now, besides the processes in `except`. Waits up to `settleMs` for what the
 * kernel takes away a moment later (a veth goes with its namespace, in the background).
 */
export async function findLeftovers(
  site: Site,
  { except = [] as number[], settleMs = 2000 } = {},
): Promise<Leftover[]> {
  const deadline = Date.now() + settleMs
  for (;;) {
    const found = await look(site, except)
    if (found.length === 0 || Date.now() > deadline) return found
    await sleep(50)
  }
}

/** One line per leftover, for an assertion's message. */
export const describeLeftovers = (found: Leftover[]): string =>
  found.map(({ kind, what }) => `${kind} ${what}`).join('\n')

async function look(site: Site, except: number[]): Promise<Leftover[]> {
  const [mounts, processes, cgroups, links, rules, tables, addresses] = await Promise.all([
    mountsSeenBy(site, ['self', ...except]),
    processesOf(site, except),
    cgroupsOf(site),
    linksOf(site),
    rulesOf(site),
    tablesOf(site),
    addressesOf(site),
  ])
  return [
    ...mounts.map((what) => ({ kind: 'mount', what }) as const),
    ...processes.map(({ pid, name }) => ({ kind: 'process', what: `${pid} ${name}` }) as const),
    ...cgroups.filter(({ top }) => !top).map(({ path }) => ({ kind: 'cgroup', what: path }) as const),
    ...links.map((what) => ({ kind: 'link', what }) as const),
    ...[...rules, ...tables].map((what) => ({ kind: 'rule', what }) as const),
    ...addresses.map((what) => ({ kind: 'address', what }) as const),
  ]
}

/** Mount points under the directory, as these processes see them: a daemon may have a mount namespace of its own. */
async function mountsSeenBy(site: Site, pids: (number | 'self')[]): Promise<string[]> {
  const seen = await Promise.all(pids.map((pid) => mountsOf(site, pid)))
  return [...new Set(seen.flat())]
}

/** Mount points under the directory, later mounts first. Pinned namespaces are mounts too. */
async function mountsOf(site: Site, pid: number | 'self' = 'self'): Promise<string[]> {
  const text = await readFile(`/proc/${pid}/mountinfo`, 'utf8').catch(() => '')
  return text
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((mountpoint) => mountpoint.startsWith(`${site.dir}/`) && mountpoint !== site.path('apart'))
    .reverse()
}

/** The process of the site with this command line, if there is one; throws when there are several. */
export async function processOf(site: Site, commandLine: string): Promise<number | undefined> {
  const all = await processesOf(site, [])
  const [found, ...more] = all.filter(({ name }) => name === commandLine)
  if (more.length > 0) throw new Error(`want one process '${commandLine}', there are ${more.length + 1}`)
  return found?.pid
}

/** Processes that belong to the site, besides this one and those in `except`. */
export async function processesOf(site: Site, except: number[]): Promise<{ pid: number; name: string }[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number)
  const known = new Set([process.pid, ...except])
  const found = await Promise.all(pids.filter((pid) => !known.has(pid)).map((pid) => siteProcess(site, pid)))
  return found.filter((process) => process !== undefined)
}

/** The process when its command line, directory, executable or cgroup is the site's. Threads of the kernel have none. */
async function siteProcess(site: Site, pid: number): Promise<{ pid: number; name: string } | undefined> {
  const proc = `/proc/${pid}`
  const none = () => ''
  const [commandLine, cgroup, cwd, exe] = await Promise.all([
    readFile(join(proc, 'cmdline'), 'utf8').catch(none),
    readFile(join(proc, 'cgroup'), 'utf8').catch(none),
    readlink(join(proc, 'cwd')).catch(none),
    readlink(join(proc, 'exe')).catch(none),
  ])
  const marks = [
    commandLine.includes(site.dir),
    cgroup.includes(site.cgroupParent),
    cwd.startsWith(site.dir),
    exe.startsWith(site.dir),
  ]
  if (!marks.includes(true)) return undefined
  return { pid, name: commandLine.replaceAll('\0', ' ').trim() || '(ended, not reaped)' }
}

/** Cgroups at and below the site's parent in every hierarchy, deepest first; `top` is the parent itself. */
async function cgroupsOf(site: Site): Promise<{ path: string; top: boolean }[]> {
  const mounts = (await readFile('/proc/self/mountinfo', 'utf8'))
    .split('\n')
    .filter((line) => / - cgroup2? /.test(line))
    .map((line) => line.split(' ')[4] ?? '')
  const found = await Promise.all(
    [...new Set(mounts)].map(async (mountpoint) => {
      const top = join(mountpoint, site.cgroupParent)
      return (await directoriesOf(top)).map((path) => ({ path, top: path === top }))
    }),
  )
  return found.flat()
}

/** The directory and all below it, children before parents; none when it does not exist. */
async function directoriesOf(path: string): Promise<string[]> {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => undefined)
  if (!entries) return []
  const below = await Promise.all(entries.filter((e) => e.isDirectory()).map((e) => directoriesOf(join(path, e.name))))
  return [...below.flat(), path]
}

/** Host ends of pods' veth pairs: the bridge's ports. The bridge itself stays with the network, as its plugin wants. */
const linksOf = (site: Site): Promise<string[]> => readdir(`/sys/class/net/${site.network.bridge}/brif`).catch(() => [])

/** Rules that carry the network's name in their comment. */
async function rulesOf(site: Site): Promise<string[]> {
  const { stdout } = await run('iptables-save')
  return stdout.split('\n').filter((line) => line.includes(site.network.name))
}

/** The nftables table for host ports, whose name the daemon makes of its root directory. */
function tableOf(site: Site): string {
  return `cricket_${createHash('sha256').update(site.path('root')).digest('hex').slice(0, 8)}`
}

async function tablesOf(site: Site): Promise<string[]> {
  const { stdout = '' } = await tryRun('nft', ['list', 'tables', 'inet'])
  return stdout.split('\n').filter((line) => line.endsWith(` ${tableOf(site)}`))
}

async function addressesOf(site: Site): Promise<string[]> {
  const names = await readdir(join(site.network.ipamDir, site.network.name)).catch(() => [])
  return names.filter((name) => /^[0-9a-f.:]+$/.test(name))
}

/** Takes away by force what belongs to the site, the bridge and the cgroup included; for the end of a test. */
export async function sweepLeftovers(site: Site): Promise<void> {
  for (let round = 0; round < 20; round++) {
    const processes = await processesOf(site, [])
    if (processes.length === 0) break
    for (const { pid } of processes) kill(pid)
    await sleep(50)
  }
  for (const mountpoint of await mountsOf(site)) await tryRun('umount', ['-l', mountpoint])
  if (site.cgroupDriver === 'systemd') await tryRun('systemctl', ['stop', site.cgroupParent])
  for (const { path } of await cgroupsOf(site)) await rmdir(path).catch(() => {})
  await tryRun('ip', ['link', 'delete', site.network.bridge])
  await sweepRules(site)
  await tryRun('nft', ['delete', 'table', 'inet', tableOf(site)])
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It ended in the meantime.
  }
}

/** Deletes the rules with the network's name, then the chains that only those rules jumped to. */
async function sweepRules(site: Site): Promise<void> {
  const chains = new Set<string>()
  for (const rule of await rulesOf(site)) {
    const words = (rule.match(/"(?:\\.|[^"])*"|\S+/g) ?? []).map((word) => unquote(word))
    if (words[0] !== '-A') continue
    const target = words[words.indexOf('-j') + 1]
    await tryRun('iptables', ['-t', 'nat', '-D', ...words.slice(1)])
    if (target?.startsWith('CNI-') && !target.startsWith('CNI-HOSTPORT')) chains.add(target)
  }
  for (const chain of chains) {
    await tryRun('iptables', ['-t', 'nat', '-F', chain])
    await tryRun('iptables', ['-t', 'nat', '-X', chain])
  }
}

const unquote = (word: string): string => (word.startsWith('"') ? word.slice(1, -1).replaceAll(/\\(.)/g, '$1') : word)
