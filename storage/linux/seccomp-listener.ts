/** The listener of a seccomp filter, by which a supervisor is told of system calls and answers in the kernel's place (seccomp_unotify(2)). */
import { receiveDescriptor } from './console-socket.ts'
import { type Epoll, readable } from './epoll.ts'
import { rawSys, sysError } from './sys.ts'
import { acceptUnix } from './unix-socket.ts'

/** _IOWR('!', 0, struct seccomp_notif) and _IOWR('!', 1, struct seccomp_notif_resp). */
const RECEIVE = 0xc0502100
const SEND = 0xc0182101
const NOTIFICATION_BYTES = 80
const RESPONSE_BYTES = 24
const ENOENT = -2
const EPERM = 1

export interface BlockedCall {
  readonly pid: number
  /** The number of the system call, and the machine (AUDIT_ARCH_*) that it is of. */
  readonly number: number
  readonly machine: number
}

/** The listener that a runtime sends over the socket, once it has connected; undefined when none waits. */
export function acceptListener(socket: number, close: (fd: number) => void): number | undefined {
  const connection = acceptUnix(socket)
  if (connection === undefined) return undefined
  try {
    // The runtime connects and sends in one go.
    return receiveDescriptor(connection)
  } finally {
    close(connection)
  }
}

/** Takes one notification and refuses its call with EPERM. undefined: whoever made it is gone. Never waits when one is there. */
export function refuseCall(listener: number): BlockedCall | undefined {
  const notification = Buffer.alloc(NOTIFICATION_BYTES)
  const received = rawSys('ioctl', listener, RECEIVE, notification)
  if (received === ENOENT) return undefined
  if (received < 0) throw sysError(received, 'ioctl SECCOMP_IOCTL_NOTIF_RECV')
  const response = Buffer.alloc(RESPONSE_BYTES)
  response.writeBigUInt64LE(notification.readBigUInt64LE(0), 0)
  response.writeInt32LE(-EPERM, 16)
  const sent = rawSys('ioctl', listener, SEND, response)
  if (sent < 0 && sent !== ENOENT) throw sysError(sent, 'ioctl SECCOMP_IOCTL_NOTIF_SEND')
  return {
    pid: notification.readUInt32LE(8),
    number: notification.readInt32LE(16),
    machine: notification.readUInt32LE(20),
  }
}

export const watchListener = (epoll: Epoll, listener: number): void => epoll.add(listener, readable)

const HANG_UP = 0x10

/** The last process of the filter has ended. */
export const isOver = (events: number): boolean => (events & HANG_UP) !== 0 && (events & readable) === 0
