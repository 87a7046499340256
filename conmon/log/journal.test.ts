import assert from 'node:assert/strict'
import { closeSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { readSome } from '#linux/descriptor.ts'
import { sys } from '#linux/sys.ts'
import { ContainerLog } from './container-log.ts'
import { Disk } from './disk.ts'
import { Journal, journalSocket } from './journal.ts'

let dir = ''
let path = ''
let server = -1
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'cricket-journal-'))
  path = join(dir, 'socket')
  server = listen(path)
})
afterEach(() => {
  closeSync(server)
  rmSync(dir, { recursive: true })
})

/** What journald does: a datagram socket. */
function listen(at: string): number {
  const address = Buffer.alloc(2 + at.length + 1)
  address.writeUInt16LE(1, 0)
  address.write(at, 2)
  const fd = sys('socket', 1, 2 | 0o2000000 | 0o4000, 0)
  sys('bind', fd, address, address.length)
  return fd
}

/** The fields of one entry, by the rules of the native protocol. */
function fieldsOf(entry: Buffer): Record<string, string> {
  const fields: Record<string, string> = {}
  for (let at = 0; at < entry.length; ) {
    const end = entry.indexOf(10, at)
    const line = entry.toString('latin1', at, end)
    const equals = line.indexOf('=')
    if (equals >= 0) {
      fields[line.slice(0, equals)] = line.slice(equals + 1)
      at = end + 1
    } else {
      const length = Number(entry.readBigUInt64LE(end + 1))
      fields[line] = entry.toString('latin1', end + 9, end + 9 + length)
      assert.equal(entry[end + 9 + length], 10)
      at = end + 9 + length + 1
    }
  }
  return fields
}

function received(): Record<string, string>[] {
  const entries: Record<string, string>[] = []
  const buffer = Buffer.alloc(256 * 1024)
  for (let count = readSome(server, buffer); count > 0; count = readSome(server, buffer)) {
    entries.push(fieldsOf(buffer.subarray(0, count)))
  }
  return entries
}

/** One that answers. */
const disk = () => new Disk({ add: () => assert.fail(), remove: () => assert.fail() }, () => assert.fail())

test('each line is an entry with its stream’s priority, its bytes, and the container’s fields', async () => {
  const journal = new Journal({ CONTAINER_ID_FULL: 'c1', CONTAINER_NAME: 'two\nlines' }, path)
  const log = await ContainerLog.open({ journal }, disk(), assert.fail)
  log.write('stdout', Buffer.from('plain\n\nbad \xff\0 bytes\nPRIORITY=0\n', 'latin1'))
  log.write('stderr', Buffer.from('trouble\nrest'))
  log.flush()
  await log.end()
  const common = { CONTAINER_ID_FULL: 'c1', CONTAINER_NAME: 'two\nlines' }
  assert.deepEqual(received(), [
    { ...common, PRIORITY: '6', MESSAGE: 'plain' },
    { ...common, PRIORITY: '6', MESSAGE: '' },
    { ...common, PRIORITY: '6', MESSAGE: 'bad \xff\0 bytes' },
    { ...common, PRIORITY: '6', MESSAGE: 'PRIORITY=0' },
    { ...common, PRIORITY: '3', MESSAGE: 'trouble' },
    { ...common, PRIORITY: '3', MESSAGE: 'rest', CONTAINER_PARTIAL_MESSAGE: 'true' },
  ])
  assert.equal(log.bytesLost, 0)
})

test('a journal that takes no more, or is not there, costs entries and nothing else; one that comes back is found', async () => {
  const journal = new Journal({}, path)
  const log = await ContainerLog.open({ path: join(dir, 'log'), journal }, disk(), assert.fail)
  const lines = 'some line\n'.repeat(5000)
  log.write('stdout', Buffer.from(lines))
  log.flush()
  const taken = received().length
  assert.ok(taken > 0 && journal.lost > 0)
  assert.equal(taken + journal.lost, 5000)
  assert.equal(log.bytesLogged, lines.length)
  closeSync(server)
  rmSync(path)
  log.write('stdout', Buffer.from('nobody\n'))
  log.flush()
  server = listen(path)
  log.write('stdout', Buffer.from('again\n'))
  log.flush()
  assert.deepEqual(
    received().map(({ MESSAGE }) => MESSAGE),
    ['again'],
  )
})

test('a record of full length fits one entry', async () => {
  const journal = new Journal({}, path)
  const log = await ContainerLog.open({ journal }, disk(), assert.fail)
  log.write('stdout', Buffer.alloc(16 * 1024, 'x'))
  log.write('stdout', Buffer.from('y\n'))
  log.flush()
  assert.deepEqual(
    received().map(({ MESSAGE }) => MESSAGE?.length),
    [16 * 1024, 1],
  )
  assert.equal(journal.lost, 0)
})

test('the socket is where journald listens', (t) => {
  if (existsSync('/run/systemd/journal')) return t.skip('host has a journal of its own')
  const made = mkdirSync(dirname(journalSocket), { recursive: true })
  const real = listen(journalSocket)
  try {
    new Journal({}).send(Buffer.from('2016-10-06T00:00:09.669794202Z stdout F hello\n'))
    const buffer = Buffer.alloc(1024)
    assert.equal(fieldsOf(buffer.subarray(0, readSome(real, buffer))).MESSAGE, 'hello')
  } finally {
    closeSync(real)
    if (made !== undefined) rmSync(made, { recursive: true })
  }
})
