/**
 * What systemd needs to run as the first process of a container, for nodes that are configured to care: places to write to,
 * a cgroup of its own to write to, a word about where it is, and its own stop signal.
 */
import { posix } from 'node:path'
import type { OciMount } from './types.ts'

/** Either systemd by its name, or what distributions link to it. */
export const runsSystemd = ([program = '']: readonly string[]): boolean =>
  posix.basename(program) === 'systemd' || program === '/sbin/init' || program === '/usr/sbin/init'

/** As systemd asks of container managers (https://systemd.io/CONTAINER_INTERFACE). */
export const SYSTEMD_STOP_SIGNAL = 'SIGRTMIN+3'

/** Its value tells programs inside which manager it is. */
export const CONTAINER_VARIABLE: readonly [string, string] = ['container', 'cricket']

const tmpfs = (destination: string, mode: string): OciMount => ({
  destination,
  type: 'tmpfs',
  source: 'tmpfs',
  options: ['nosuid', 'nodev', `mode=${mode}`, 'size=65536k', 'rw'],
})

/** A mount of the request at the same place wins. */
export const systemdMounts = (): OciMount[] => [
  tmpfs('/run', '755'),
  tmpfs('/run/lock', '755'),
  tmpfs('/tmp', '1777'),
  tmpfs('/var/log/journal', '755'),
]
