/**
 * A volume on a server that can be made to answer no more (SIGSTOP): a FUSE file system of one directory with another one,
 * "sub", in it. Argument: the mount point. Says "mounted" once it is.
 */
import { spawnSync } from 'node:child_process'
import { constants, openSync, readSync, writeSync } from 'node:fs'

const LOOKUP = 1
const GETATTR = 3
const STATFS = 17
const INIT = 26
const OPENDIR = 27
const READDIR = 28
const RELEASEDIR = 29
const ACCESS = 34
/** FORGET, INTERRUPT, BATCH_FORGET: nobody waits for an answer. */
const UNANSWERED = new Set([2, 36, 42])
const { ENOENT, ENOSYS } = { ENOENT: 2, ENOSYS: 38 }

const device = openSync('/dev/fuse', constants.O_RDWR)
const options = 'fd=3,rootmode=40000,user_id=0,group_id=0,allow_other'
const { status, stderr } = spawnSync('mount', ['-i', '-t', 'fuse', '-o', options, 'volume-server', process.argv[2]], {
  stdio: ['ignore', 'ignore', 'pipe', device],
})
if (status !== 0) throw new Error(`cannot mount: ${stderr}`)
process.stdout.write('mounted\n')

/** struct fuse_attr of a directory. */
function directory(node) {
  const attr = Buffer.alloc(88)
  attr.writeBigUInt64LE(BigInt(node), 0)
  attr.writeUInt32LE(0o40755, 60)
  attr.writeUInt32LE(2, 64)
  attr.writeUInt32LE(4096, 80)
  return attr
}

function answer(opcode, node, body) {
  switch (opcode) {
    case INIT: {
      const init = Buffer.alloc(64)
      init.writeUInt32LE(7, 0)
      init.writeUInt32LE(31, 4)
      init.writeUInt32LE(4096, 20)
      return init
    }
    // Nothing of it may be remembered: each look comes here.
    case GETATTR:
      return Buffer.concat([Buffer.alloc(16), directory(node)])
    case LOOKUP: {
      if (body.subarray(0, body.indexOf(0)).toString() !== 'sub') return ENOENT
      const entry = Buffer.alloc(40)
      entry.writeBigUInt64LE(2n, 0)
      return Buffer.concat([entry, directory(2)])
    }
    case STATFS:
      return Buffer.alloc(80)
    case OPENDIR:
      return Buffer.alloc(16)
    case READDIR:
    case RELEASEDIR:
    case ACCESS:
      return Buffer.alloc(0)
    default:
      return ENOSYS
  }
}

const request = Buffer.alloc(1 << 18)
for (;;) {
  const length = readSync(device, request)
  const opcode = request.readUInt32LE(4)
  if (UNANSWERED.has(opcode)) continue
  const told = answer(opcode, Number(request.readBigUInt64LE(16)), request.subarray(40, length))
  const [error, body] = typeof told === 'number' ? [-told, Buffer.alloc(0)] : [0, told]
  const header = Buffer.alloc(16)
  header.writeUInt32LE(16 + body.length, 0)
  header.writeInt32LE(error, 4)
  request.copy(header, 8, 8, 16)
  writeSync(device, Buffer.concat([header, body]))
}
