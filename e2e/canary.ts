/** Things of the host that no test may change: a tree of its own, kernel settings, the OCI runtime's program. */

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const SETTINGS = [
  'kernel/core_pattern',
  'kernel/panic',
  'kernel/shmmax',
  'kernel/sem',
  'net/ipv4/ip_forward',
  'vm/swappiness',
]

export interface Canary {
  readonly dir: string
  /** What the file in it says; nowhere else to be seen. */
  readonly secret: string
  /** Fails when anything has changed since. */
  assertUnharmed(): void
}

export function makeCanary(dir: string): Canary {
  const secret = `canary-${createHash('sha256').update(dir).digest('hex').slice(0, 16)}`
  mkdirSync(join(dir, 'inner'), { recursive: true })
  writeFileSync(join(dir, 'passwd'), `root:x:0:0:${secret}:/root:/bin/sh\n`)
  writeFileSync(join(dir, 'inner/file'), secret, { mode: 0o600 })
  const before = snapshot(dir)
  return { dir, secret, assertUnharmed: () => assert.deepEqual(snapshot(dir), before) }
}

function snapshot(dir: string): Record<string, string> {
  const seen: Record<string, string> = {}
  for (const name of ['', ...readdirSync(dir, { recursive: true, encoding: 'utf8' }).sort()]) {
    const path = join(dir, name)
    const { mode, uid, gid, ino, nlink, atimeMs, mtimeMs, ctimeMs } = statSync(path)
    const isFile = statSync(path).isFile()
    // Reading a directory here touches it; reading a file must be nobody's doing.
    seen[path] = [mode, uid, gid, ino, nlink, mtimeMs, ctimeMs, isFile ? atimeMs : ''].join(' ')
  }
  for (const setting of SETTINGS) seen[setting] = readFileSync(join('/proc/sys', setting), 'utf8')
  for (const path of ['/etc/passwd', '/etc/hosts', '/usr/sbin/runc']) {
    seen[path] = createHash('sha256').update(readFileSync(path)).digest('hex')
  }
  return seen
}
