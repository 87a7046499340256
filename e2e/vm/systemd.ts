/** What tests ask systemd, and the daemon as its service. */

import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { type CriClient, connectCri } from '../cri-client.ts'
import { until } from '../pods.ts'

const CGROUPS = '/sys/fs/cgroup'
export const SOCKET = '/run/cricket/cricket.sock'

/** Tools of the machine. */
export const tool = execa({ cwd: '/', env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } })

export const systemctl = async (...args: string[]): Promise<string> => (await tool('systemctl', args)).stdout.trim()

/** Properties of a unit, by name. */
export async function unitProperties(unit: string, ...names: string[]): Promise<Record<string, string>> {
  const text = await systemctl('show', unit, `--property=${names.join(',')}`)
  return Object.fromEntries(
    text.split('\n').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  )
}

export const servicePid = async (): Promise<number> => Number((await unitProperties('cricket', 'MainPID')).MainPID)

/** Waits until the service answers, with a new process when `after` is the old one's pid. */
export async function untilServes(after = 0): Promise<CriClient> {
  await until('the service has a new process', 60_000, async () => {
    const pid = await servicePid()
    return pid !== 0 && pid !== after ? pid : undefined
  })
  const cri = connectCri(SOCKET)
  await until('the service answers', 60_000, () => cri.runtime.version({}, { timeoutMs: 5000 }).catch(() => undefined))
  return cri
}

/** The daemon's units of containers, in whatever state. */
export async function containerScopes(): Promise<string[]> {
  const text = await systemctl('list-units', '--all', '--full', '--plain', '--no-legend', 'cricket-*.scope')
  return text
    .split('\n')
    .flatMap((line) => line.trim().split(/\s+/, 1))
    .filter(Boolean)
}

/** Where systemd puts the scope of a container in the slice of its pod: every dash of a slice's name is a level. */
export function scopePath(slice: string, containerId: string): string {
  const parts = slice.replace(/\.slice$/, '').split('-')
  const levels = parts.map((_, index) => `${parts.slice(0, index + 1).join('-')}.slice`)
  return join('/', ...levels, `cricket-${containerId}.scope`)
}

export const readCgroup = async (path: string, file: string): Promise<string> =>
  (await readFile(join(CGROUPS, path, file), 'utf8')).trim()

/** Names of the cgroups in one. */
export const cgroupsIn = async (path: string): Promise<string[]> => {
  const entries = await readdir(join(CGROUPS, path), { withFileTypes: true }).catch(() => [])
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name)
}

export const cgroupOf = async (pid: number | 'self'): Promise<string> =>
  (await readFile(`/proc/${pid}/cgroup`, 'utf8')).trim().replace(/^0::/, '')
