/** Network devices of the calling thread's network namespace, as far as a sandbox needs them before CNI: the loopback comes up. */
import { closeSync } from 'node:fs'
import { LinuxError } from './errno.ts'
import { sys, sysOn } from './sys.ts'

const AF_UNIX = 1
const SOCK_DGRAM_CLOEXEC = 2 | 0x80000
const SIOCGIFFLAGS = 0x8913
const SIOCSIFFLAGS = 0x8914
const IFF_UP = 1
const NAME_SIZE = 16

/** Brings a device up, for instance "lo". Throws ENODEV when there is none of that name. */
export const setLinkUp = (name: string): void => {
  if (name === '' || Buffer.byteLength(name) >= NAME_SIZE) throw new LinuxError('ENODEV', 'ioctl', name)
  const request = Buffer.alloc(40)
  request.write(name)
  // Any socket will do, it only says which namespace is meant.
  const socket = sys('socket', AF_UNIX, SOCK_DGRAM_CLOEXEC, 0)
  try {
    sysOn(name, 'ioctl', socket, SIOCGIFFLAGS, request)
    request.writeUInt16LE(request.readUInt16LE(NAME_SIZE) | IFF_UP, NAME_SIZE)
    sysOn(name, 'ioctl', socket, SIOCSIFFLAGS, request)
  } finally {
    closeSync(socket)
  }
}
