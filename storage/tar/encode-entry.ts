/**
 * A tar entry → its header, in ustar form with a pax extended header in front for what does not fit. Pure; the opposite of `entry.ts`.
 * Names are bytes: strings here hold one character (0-255) per byte.
 */
import type { EntryKind, TarEntry } from './entry.ts'
import { BLOCK } from './header.ts'

const TYPES: Record<EntryKind, string> = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  char: '3',
  block: '4',
  directory: '5',
  fifo: '6',
}

const MAX_NAME = 100
const MAX_ID = 8 ** 7
const MAX_SIZE = 8 ** 11

/** Two blocks of zeros. */
export const END_OF_ARCHIVE: Buffer = Buffer.alloc(2 * BLOCK)

/** How many bytes follow a content of `size` bytes to the end of its last block. */
export const paddingAfter = (size: number): number => (BLOCK - (size % BLOCK)) % BLOCK

/** Header blocks of the entry; its content and `paddingAfter` it come next. */
export const encodeEntry = (entry: TarEntry): Buffer => {
  const pax = paxRecords(entry)
  const own = headerBlock(entry, TYPES[entry.kind])
  if (pax.length === 0) return own
  const extension = { ...entry, name: 'PaxHeaders', linkName: '', mode: 0o644, size: pax.length, major: 0, minor: 0 }
  return Buffer.concat([headerBlock(extension, 'x'), pax, Buffer.alloc(paddingAfter(pax.length)), own])
}

const paxRecords = ({ name, linkName, uid, gid, size, mtime, xattrs }: TarEntry): Buffer => {
  const records: [string, string][] = []
  if (name.length > MAX_NAME) records.push(['path', name])
  if (linkName.length > MAX_NAME) records.push(['linkpath', linkName])
  if (uid >= MAX_ID) records.push(['uid', String(uid)])
  if (gid >= MAX_ID) records.push(['gid', String(gid)])
  if (size >= MAX_SIZE) records.push(['size', String(size)])
  if (mtime.seconds < 0 || mtime.seconds >= MAX_SIZE || mtime.nanoseconds !== 0)
    records.push(['mtime', timeText(mtime)])
  for (const [xattr, value] of xattrs) records.push([`SCHILY.xattr.${xattr}`, value.toString('latin1')])
  return Buffer.from(records.map(([key, value]) => paxRecord(key, value)).join(''), 'latin1')
}

/** The length at its beginning counts itself. */
const paxRecord = (key: string, value: string): string => {
  const rest = ` ${key}=${value}\n`
  let length = rest.length + 1
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length
  return `${length}${rest}`
}

const timeText = ({ seconds, nanoseconds }: TarEntry['mtime']): string => {
  if (seconds >= 0) return `${seconds}.${String(nanoseconds).padStart(9, '0')}`
  // Nanoseconds count upwards from the second, the sign is that of the whole.
  const [whole, fraction] = nanoseconds === 0 ? [-seconds, 0] : [-seconds - 1, 1e9 - nanoseconds]
  return `-${whole}.${String(fraction).padStart(9, '0')}`
}

const headerBlock = (entry: TarEntry, type: string): Buffer => {
  const block = Buffer.alloc(BLOCK)
  const octal = (value: number, at: number, digits: number, limit: number): void => {
    const fits = value >= 0 && value < limit
    block.write(`${(fits ? value : 0).toString(8).padStart(digits, '0')}\0`, at, 'latin1')
  }
  block.write(entry.name.slice(0, MAX_NAME), 0, 'latin1')
  octal(entry.mode, 100, 7, MAX_ID)
  octal(entry.uid, 108, 7, MAX_ID)
  octal(entry.gid, 116, 7, MAX_ID)
  octal(entry.size, 124, 11, MAX_SIZE)
  octal(entry.mtime.seconds, 136, 11, MAX_SIZE)
  block.write(type, 156, 'latin1')
  block.write(entry.linkName.slice(0, MAX_NAME), 157, 'latin1')
  block.write('ustar\x0000', 257, 'latin1')
  octal(entry.major, 329, 7, MAX_ID)
  octal(entry.minor, 337, 7, MAX_ID)
  block.fill(0x20, 148, 156)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return block
}
