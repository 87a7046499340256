/**
 * A container's lines as entries of the systemd journal, by its native protocol: one datagram per record. Best effort, unlike the log
 * file: what the journal does not take at once is counted and gone.
 */
import { closeSync } from 'node:fs'
import { rawSys, sys } from '#linux/sys.ts'
import { prefixBytes, tagOffset } from './cri-log.ts'
import { timestampBytes } from './timestamp.ts'

export const journalSocket = '/run/systemd/journal/socket'

const AF_UNIX = 1
const SOCK_DGRAM_FLAGS = 2 | 0o2000000 | 0o4000
const MSG_DONTWAIT_NOSIGNAL = 0x40 | 0x4000
const LINE_FEED = 10
const PARTIAL = 'P'.charCodeAt(0)
/** " stderr": the second letter after " std" tells the streams apart. */
const STREAM_LETTER = timestampBytes + ' std'.length
const ERROR_LETTER = 'e'.charCodeAt(0)
const PRIORITY_INFO = 6
const PRIORITY_ERROR = 3

export class Journal {
  readonly #socket = sys('socket', AF_UNIX, SOCK_DGRAM_FLAGS, 0)
  readonly #address: Buffer
  readonly #common: Buffer
  /** Entries that the journal did not take. */
  lost = 0

  /** @param fields of every entry; names are good names of journal fields */
  constructor(fields: Readonly<Record<string, string>>, path = journalSocket) {
    this.#address = Buffer.alloc(2 + Buffer.byteLength(path) + 1)
    this.#address.writeUInt16LE(AF_UNIX, 0)
    this.#address.write(path, 2)
    this.#common = Buffer.concat(Object.entries(fields).map(([name, value]) => field(name, Buffer.from(value))))
  }

  /** Sends every record of a batch of the log. */
  send(batch: Buffer): void {
    for (let start = 0; start < batch.length; ) {
      const end = batch.indexOf(LINE_FEED, start)
      if (end < 0) return
      this.#sendRecord(batch.subarray(start, end))
      start = end + 1
    }
  }

  close(): void {
    closeSync(this.#socket)
  }

  #sendRecord(record: Buffer): void {
    const priority = record[STREAM_LETTER] === ERROR_LETTER ? PRIORITY_ERROR : PRIORITY_INFO
    const partial = record[tagOffset] === PARTIAL ? 'CONTAINER_PARTIAL_MESSAGE=true\n' : ''
    const head = Buffer.from(`PRIORITY=${priority}\n${partial}`)
    const entry = Buffer.concat([head, this.#common, field('MESSAGE', record.subarray(prefixBytes))])
    const address = this.#address
    // With an address each time: the journal may be restarted, and is found again.
    const sent = rawSys('sendto', this.#socket, entry, entry.length, MSG_DONTWAIT_NOSIGNAL, address, address.length)
    if (sent < 0) this.lost++
  }
}

/** The form that takes any bytes: name, length (64 bits, little endian), value. */
function field(name: string, value: Buffer): Buffer {
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(value.length))
  return Buffer.concat([Buffer.from(`${name}\n`), length, value, Buffer.from('\n')])
}
