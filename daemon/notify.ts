/**
 * Tells systemd how the service is doing (sd_notify(3)): ready, stopping, and, when the unit asks for it, that the event loop still
 * turns. Nothing happens when the daemon was not started by a unit with Type=notify.
 */
import { closeSync } from 'node:fs'
import { sys } from '#linux/sys.ts'
import { messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'

const AF_UNIX = 1
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000
const MSG_NOSIGNAL_DONTWAIT = 0x4000 | 0x40

export interface Supervisor {
  /** Calls can be made; from now on the watchdog is fed. */
  ready(): void
  stopping(): void
}

/** @param env takes the variables out, so that no child speaks in the daemon's name */
export function connectSupervisor(env: NodeJS.ProcessEnv, log: Log): Supervisor {
  const socket = env.NOTIFY_SOCKET
  const watchdogMs = watchdogInterval(env)
  for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete env[name]
  if (!socket) return { ready: () => {}, stopping: () => {} }
  const tell = (state: string): void => {
    try {
      send(socket, state)
    } catch (error) {
      log.warn('Cannot tell the service manager', { state, why: messageOf(error) })
    }
  }
  let feeding: NodeJS.Timeout | undefined
  return {
    ready: () => {
      tell('READY=1')
      if (watchdogMs !== undefined) feeding = setInterval(() => tell('WATCHDOG=1'), watchdogMs).unref()
    },
    stopping: () => {
      clearInterval(feeding)
      tell('STOPPING=1')
    },
  }
}

/** Half of the time after which systemd would take the daemon for hung. */
function watchdogInterval({ WATCHDOG_USEC, WATCHDOG_PID }: NodeJS.ProcessEnv): number | undefined {
  if (WATCHDOG_PID !== undefined && WATCHDOG_PID !== String(process.pid)) return undefined
  const ms = Number(WATCHDOG_USEC) / 1000
  return ms > 0 ? Math.max(1, Math.floor(ms / 2)) : undefined
}

function send(socket: string, state: string): void {
  const name = Buffer.from(socket)
  // "@" stands for the NUL that begins an abstract name.
  if (name[0] === 0x40) name[0] = 0
  const family = Buffer.alloc(2)
  family.writeUInt16LE(AF_UNIX)
  const address = Buffer.concat([family, name])
  const message = Buffer.from(state)
  const fd = sys('socket', AF_UNIX, SOCK_DGRAM_CLOEXEC, 0)
  try {
    sys('sendto', fd, message, message.length, MSG_NOSIGNAL_DONTWAIT, address, address.length)
  } finally {
    closeSync(fd)
  }
}
