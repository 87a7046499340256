/** The wait of a spare monitor: asleep in one read, until it is told which directory is its, or nobody is left who could tell. */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { cgroupLayout } from '#linux/cgroup.ts'
import { readSome } from '#linux/descriptor.ts'
import { rawSysAside, sys } from '#linux/sys.ts'
import { longestAdoptedDir, monitorFiles, ordersDescriptor, spareFlag } from '#proto/conmon.ts'
import { collectGarbage } from './collect-garbage.ts'

/** The state directory. Does not return when there is none to come. */
export function awaitOrders(): string {
  // What a monitor does once, whatever its container.
  cgroupLayout()
  rawSysAside(1000, 'getppid')
  collectGarbage()
  const dir = readLine()
  closeSync(ordersDescriptor)
  if (dir === undefined) {
    sys('exit_group', 0)
    throw new Error('there is life after the end')
  }
  takeOverWords(join(dir, monitorFiles.log))
  nameDirectory(dir)
  return dir
}

function readLine(): string | undefined {
  const buffer = Buffer.alloc(longestAdoptedDir + 1)
  let length = 0
  while (length < buffer.length && (length === 0 || buffer[length - 1] !== 10)) {
    const count = readSome(ordersDescriptor, buffer.subarray(length))
    if (count <= 0) return undefined
    length += count
  }
  return buffer.toString('utf8', 0, length - 1)
}

/** As if it had been launched there. */
function takeOverWords(path: string): void {
  const fd = openSync(path, 'a', 0o600)
  sys('dup3', fd, 1, 0)
  sys('dup3', fd, 2, 0)
  closeSync(fd)
}

/** So that its command line tells operators, and the daemon, whose monitor it is: the kernel reads that from our memory. */
function nameDirectory(dir: string): void {
  const stat = readFileSync('/proc/self/stat', 'latin1')
  const [start = 0, end = 0] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(45, 47)
    .map(Number)
  const before = readFileSync('/proc/self/cmdline')
  const flag = before.indexOf(`\0${spareFlag}\0`) + 1
  if (flag === 0 || end - start !== before.length) return
  const after = Buffer.alloc(before.length - flag)
  after.write(dir)
  const memory = openSync('/proc/self/mem', 'r+')
  try {
    writeSync(memory, after, 0, after.length, start + flag)
  } finally {
    closeSync(memory)
  }
}
