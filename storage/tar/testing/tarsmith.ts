/** Forges tar archives byte by byte, the hostile ones too, that no packer would write. For tests. */

/** One header with what follows it. Strings hold one character per byte. Everything may lie. */
export interface Forged {
  readonly name: string
  /** Type flag; '0' when not given. */
  readonly type?: string
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  readonly mtime?: number
  readonly linkName?: string
  readonly prefix?: string
  readonly major?: number
  readonly minor?: number
  readonly data?: string | Buffer
  /** The size field, when it is not the length of the data. */
  readonly size?: number
  readonly magic?: 'ustar' | 'gnu' | 'star' | 'v7'
  /** Numeric fields in base-256. */
  readonly binary?: boolean
  /** Changes the block before its checksum is made. */
  readonly patch?: (block: Buffer) => void
  /** Changes the block after its checksum is made. */
  readonly spoil?: (block: Buffer) => void
}

const MAGIC = { ustar: 'ustar\x0000', star: 'ustar\x0000', gnu: 'ustar  \0', v7: '' }

/** Two's complement with the first bit set. */
export const base256 = (value: number | bigint, length: number): Buffer => {
  const field = Buffer.alloc(length)
  let rest = BigInt.asUintN(length * 8, BigInt(value))
  for (let i = length - 1; i >= 0; i--) {
    field[i] = Number(rest & 0xffn)
    rest >>= 8n
  }
  field[0] = (field[0] ?? 0) | 0x80
  return field
}

const numeric = (value: number, length: number, binary: boolean): Buffer =>
  binary || value < 0 || value >= 8 ** (length - 1)
    ? base256(value, length)
    : Buffer.from(`${value.toString(8).padStart(length - 1, '0')}\0`)

export const headerBlock = (entry: Forged): Buffer => {
  const { mode = 0o644, uid = 0, gid = 0, mtime = 0, major = 0, minor = 0, magic = 'ustar', binary = false } = entry
  const block = Buffer.alloc(512)
  block.write(entry.name, 0, 100, 'latin1')
  numeric(mode, 8, binary).copy(block, 100)
  numeric(uid, 8, binary).copy(block, 108)
  numeric(gid, 8, binary).copy(block, 116)
  numeric(entry.size ?? Buffer.byteLength(entry.data ?? '', 'latin1'), 12, binary).copy(block, 124)
  numeric(mtime, 12, binary).copy(block, 136)
  block.write(entry.type ?? '0', 156, 1, 'latin1')
  block.write(entry.linkName ?? '', 157, 100, 'latin1')
  block.write(MAGIC[magic], 257, 'latin1')
  if (magic !== 'v7') {
    numeric(major, 8, binary).copy(block, 329)
    numeric(minor, 8, binary).copy(block, 337)
    block.write(entry.prefix ?? '', 345, magic === 'star' ? 131 : 155, 'latin1')
  }
  if (magic === 'star') block.write('tar\0', 508, 'latin1')
  entry.patch?.(block)
  block.fill(0x20, 148, 156)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  entry.spoil?.(block)
  return block
}

const padded = (data: Buffer): Buffer => Buffer.concat([data, Buffer.alloc((512 - (data.length % 512)) % 512)])

/** Header, data, padding. */
export const forge = (entry: Forged): Buffer => {
  const data = typeof entry.data === 'string' ? Buffer.from(entry.data, 'latin1') : (entry.data ?? Buffer.alloc(0))
  return Buffer.concat([headerBlock(entry), padded(data)])
}

export const END = Buffer.alloc(1024)

/** Entries and the end mark. */
export const archive = (...parts: (Forged | Buffer)[]): Buffer =>
  Buffer.concat([...parts.map((part) => (Buffer.isBuffer(part) ? part : forge(part))), END])

export const file = (name: string, data = '', more: Partial<Forged> = {}): Forged => ({ name, data, ...more })
export const dir = (name: string, more: Partial<Forged> = {}): Forged => ({ name, type: '5', mode: 0o755, ...more })
export const symlink = (name: string, linkName: string, more: Partial<Forged> = {}): Forged => ({
  name,
  linkName,
  type: '2',
  mode: 0o777,
  ...more,
})
export const hardlink = (name: string, linkName: string, more: Partial<Forged> = {}): Forged => ({
  name,
  linkName,
  type: '1',
  ...more,
})
export const device = (name: string, type: 'char' | 'block', major: number, minor: number): Forged => ({
  name,
  type: type === 'char' ? '3' : '4',
  major,
  minor,
})

/** One pax record, its length included in itself. */
export const paxRecord = (key: string, value: string | Buffer): Buffer => {
  const content = Buffer.concat([Buffer.from(` ${key}=`, 'latin1'), bytesOf(value), Buffer.from('\n')])
  let length = content.length + 1
  while (String(length).length + content.length !== length) length = String(length).length + content.length
  return Buffer.concat([Buffer.from(String(length)), content])
}

const bytesOf = (value: string | Buffer): Buffer => (typeof value === 'string' ? Buffer.from(value, 'latin1') : value)

/** A pax extended header for the next entry. */
export const pax = (records: Record<string, string | Buffer>, type: 'x' | 'g' = 'x'): Forged => ({
  name: 'PaxHeaders/forged',
  type,
  data: Buffer.concat(Object.entries(records).map(([key, value]) => paxRecord(key, value))),
})

/** A GNU long name (`L`) or long link target (`K`) for the next entry. */
export const gnuLong = (type: 'L' | 'K', text: string): Forged => ({
  name: '././@LongLink',
  type,
  magic: 'gnu',
  data: Buffer.from(`${text}\0`, 'latin1'),
})
