/** Decodes pax extended headers: `length key=value\n` records (POSIX pax, "Extended Header"). Pure. Strings hold one character per byte. */
import { refused, shown } from './refused.ts'

/** The records of one extended header that mean something to us. */
export interface PaxRecords {
  readonly path?: string
  readonly linkPath?: string
  readonly size?: number
  readonly uid?: number
  readonly gid?: number
  readonly mtime?: Timestamp
  /** `SCHILY.xattr.*`, without the prefix. */
  readonly xattrs?: ReadonlyMap<string, Buffer>
  readonly sparse?: PaxSparse
}

/** Whole seconds since 1970 and the nanoseconds after them. */
export interface Timestamp {
  readonly seconds: number
  readonly nanoseconds: number
}

/** GNU sparse formats 0.0 and 0.1 carry the map in records, 1.0 at the start of the data. */
export interface PaxSparse {
  readonly name?: string
  readonly realSize?: number
  /** Offset and length by turns; undefined when the map is in the data (1.0). */
  readonly map?: readonly number[]
}

const XATTR = 'SCHILY.xattr.'

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

/** Throws failed-precondition for records that do not add up or hold impossible values. */
export const decodePax = (bytes: Buffer): PaxRecords => {
  const records: Mutable<PaxRecords> = {}
  const xattrs = new Map<string, Buffer>()
  const sparse: SparseDraft = { map: [] }
  for (const { key, value } of recordsOf(bytes)) {
    if (key.startsWith('GNU.sparse.')) takeSparse(sparse, key.slice(11), value)
    else if (key.startsWith(XATTR))
      xattrs.set(withoutNul('xattr name', key.slice(XATTR.length)), Buffer.from(value, 'latin1'))
    else takeRecord(records, key, value)
  }
  if (xattrs.size > 0) records.xattrs = xattrs
  const finished = finishSparse(sparse)
  if (finished !== undefined) records.sparse = finished
  return records
}

function* recordsOf(bytes: Buffer): Generator<{ key: string; value: string }> {
  let at = 0
  while (at < bytes.length) {
    const space = bytes.indexOf(0x20, at)
    const lengthText = space === -1 || space - at > 8 ? '' : bytes.toString('latin1', at, space)
    const end = /^[1-9][0-9]*$/.test(lengthText) ? at + Number(lengthText) : 0
    if (end <= space + 1 || end > bytes.length || bytes[end - 1] !== 0x0a)
      throw refused('Archive has a pax header whose records do not add up')
    const record = bytes.toString('latin1', space + 1, end - 1)
    const equals = record.indexOf('=')
    if (equals < 1) throw refused('Archive has a pax record without a key')
    yield { key: record.slice(0, equals), value: record.slice(equals + 1) }
    at = end
  }
}

/** An empty value deletes the record, so that the header's own field counts. */
const takeRecord = (records: Mutable<PaxRecords>, key: string, value: string): void => {
  const unset = value === ''
  switch (key) {
    case 'path':
      if (unset) delete records.path
      else records.path = withoutNul(key, value)
      return
    case 'linkpath':
      if (unset) delete records.linkPath
      else records.linkPath = withoutNul(key, value)
      return
    case 'size':
    case 'uid':
    case 'gid':
      if (unset) delete records[key]
      else records[key] = decimal(key, value)
      return
    case 'mtime':
      if (unset) delete records.mtime
      else records.mtime = timestamp(value)
      return
    default:
  }
}

const withoutNul = (key: string, value: string): string => {
  if (value.includes('\0')) throw refused(`Archive has a pax record "${key}" with a NUL byte in ${shown(value)}`)
  return value
}

const decimal = (key: string, value: string): number => {
  const result = /^[0-9]{1,16}$/.test(value) ? Number(value) : Number.NaN
  if (!Number.isSafeInteger(result)) throw refused(`Archive has a pax record "${key}" with the value ${shown(value)}`)
  return result
}

const timestamp = (value: string): Timestamp => {
  const parts = /^(-?)([0-9]{1,15})(?:\.([0-9]*))?$/.exec(value)
  if (parts === null) throw refused(`Archive has a pax record "mtime" with the value ${shown(value)}`)
  const [, sign, whole = '', fraction = ''] = parts
  const seconds = Number(whole)
  const nanoseconds = Number(fraction.slice(0, 9).padEnd(9, '0'))
  if (sign !== '-') return { seconds, nanoseconds }
  return nanoseconds === 0
    ? { seconds: -seconds, nanoseconds: 0 }
    : { seconds: -seconds - 1, nanoseconds: 1e9 - nanoseconds }
}

interface SparseDraft {
  major?: string
  name?: string
  realSize?: number
  map: number[]
  hasMap?: boolean
}

const takeSparse = (sparse: SparseDraft, key: string, value: string): void => {
  switch (key) {
    case 'major':
      sparse.major = value
      return
    case 'name':
      sparse.name = withoutNul(key, value)
      return
    case 'size':
    case 'realsize':
      sparse.realSize = decimal(key, value)
      return
    case 'numblocks':
      sparse.hasMap = true
      return
    case 'offset':
    case 'numbytes':
      sparse.hasMap = true
      sparse.map.push(decimal(key, value))
      return
    case 'map':
      sparse.hasMap = true
      sparse.map = value === '' ? [] : value.split(',').map((part) => decimal(key, part))
      return
    default:
  }
}

const finishSparse = (draft: SparseDraft): PaxSparse | undefined => {
  const inData = draft.major === '1'
  if (!inData && draft.hasMap !== true) return undefined
  return {
    ...(draft.name !== undefined && { name: draft.name }),
    ...(draft.realSize !== undefined && { realSize: draft.realSize }),
    ...(!inData && { map: draft.map }),
  }
}
