/**
 * A TCP connection from inside a pinned network namespace, without a process there: a socket belongs to the namespace in which it was
 * made, whoever connects it. So the thread enters, makes the socket and is back in the same tick; the rest is Node's.
 */
import { closeSync } from 'node:fs'
import { isIPv6, Socket, type SocketConstructorOpts } from 'node:net'
import { inNamespaces } from './namespaces.ts'
import { sys } from './sys.ts'

const AF_INET = 2
const AF_INET6 = 10
const SOCK_STREAM = 1
const SOCK_NONBLOCK = 0o4000
const SOCK_CLOEXEC = 0o2000000

export interface Endpoint {
  /** Where the network namespace is pinned; undefined: the one of this process. */
  readonly netns: string | undefined
  /** An IP address: names are not resolved, as that would happen outside. */
  readonly address: string
  readonly port: number
}

const socketIn = ({ netns, address }: Endpoint): number => {
  const make = () => sys('socket', isIPv6(address) ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
  return netns === undefined ? make() : inNamespaces({ net: netns }, make)
}

/**
 * Connects; the socket may half-close. Throws Node's error of the connection (ECONNREFUSED, ENETUNREACH …), that of a pin which is
 * not there (ENOENT), EAFNOSUPPORT for a family that the kernel lacks, or the reason of `signal`.
 */
export const connectInNamespace = (endpoint: Endpoint, signal: AbortSignal): Promise<Socket> => {
  signal.throwIfAborted()
  const fd = socketIn(endpoint)
  let socket: Socket
  try {
    // Node must not read from it before it is connected.
    const options: SocketConstructorOpts & { manualStart: boolean } = { fd, allowHalfOpen: true, manualStart: true }
    socket = new Socket(options)
  } catch (error) {
    closeSync(fd)
    throw error
  }
  return connected(socket, endpoint, signal)
}

const connected = (socket: Socket, { address, port }: Endpoint, signal: AbortSignal): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const aborted = () => socket.destroy(signal.reason)
    signal.addEventListener('abort', aborted, { once: true })
    socket.once('error', reject)
    socket.once('close', () => signal.removeEventListener('abort', aborted))
    socket.connect({ port, host: address }, () => {
      signal.removeEventListener('abort', aborted)
      socket.off('error', reject)
      resolve(socket.setNoDelay(true))
    })
  })
