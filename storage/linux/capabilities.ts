/** What of root's power a process has. Numbers as in capabilities(7). */
import { sys } from './sys.ts'

export const CAPABILITY = {
  chown: 0,
  dacOverride: 1,
  fowner: 3,
  fsetid: 4,
  sysChroot: 18,
  mknod: 27,
  setfcap: 31,
} as const

const VERSION_3 = 0x20080522

/** The numbers of all capabilities that this thread has or could take. */
export const ownCapabilities = (): number[] => {
  const header = Buffer.alloc(8)
  header.writeUInt32LE(VERSION_3, 0)
  const data = Buffer.alloc(24)
  sys('capget', header, data)
  const permitted = BigInt(data.readUInt32LE(4)) | (BigInt(data.readUInt32LE(16)) << 32n)
  return Array.from({ length: 64 }, (_, number) => number).filter((number) => (permitted >> BigInt(number)) & 1n)
}
