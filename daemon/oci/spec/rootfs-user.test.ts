import assert from 'node:assert/strict'
import { closeSync, ftruncateSync, mkdirSync, mkdtempSync, openSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { linux } from '#linux/linux.ts'
import { isKind } from '#proto/errors.ts'
import { readUserFiles } from './rootfs-user.ts'

const base = mkdtempSync(join(tmpdir(), 'cricket-oci-'))
after(() => rmSync(base, { recursive: true, force: true }))
const skip = process.getuid?.() === 0 ? false : 'host lacks root'

let count = 0
const rootfs = (): string => {
  const path = join(base, `rootfs-${count++}`)
  mkdirSync(join(path, 'etc'), { recursive: true })
  return path
}
const failed = (error: unknown) => isKind(error, 'failed-precondition')

test('both files, one of them, or none', () => {
  const root = rootfs()
  assert.deepEqual(readUserFiles(linux, root), {})
  writeFileSync(join(root, 'etc/group'), 'g')
  assert.deepEqual(readUserFiles(linux, root), { group: 'g' })
  writeFileSync(join(root, 'etc/passwd'), 'p')
  assert.deepEqual(readUserFiles(linux, root), { passwd: 'p', group: 'g' })
  assert.deepEqual(readUserFiles(linux, join(base)), {})
})

test('cve-2024-9676: links stay inside the rootfs', () => {
  const secret = join(base, 'secret')
  writeFileSync(secret, 'of the host')
  for (const target of [secret, '../../secret', `/proc/self/root${secret}`, '../../../../../../etc/hostname']) {
    const root = rootfs()
    symlinkSync(target, join(root, 'etc/passwd'))
    assert.deepEqual(readUserFiles(linux, root), {}, target)
  }
  const root = rootfs()
  writeFileSync(join(root, 'accounts'), 'inside')
  symlinkSync('/accounts', join(root, 'etc/passwd'))
  assert.deepEqual(readUserFiles(linux, root), { passwd: 'inside' })
  const moved = join(base, 'moved')
  mkdirSync(moved)
  symlinkSync('/', join(moved, 'etc'))
  assert.deepEqual(readUserFiles(linux, moved), {})
})

test('cve-2026-47262: what is no regular file, or endless, is refused at once', { skip }, () => {
  const make: Record<string, (path: string) => void> = {
    fifo: (path) => linux.mknod(path, { type: 'fifo', mode: 0o644 }),
    zero: (path) => linux.mknod(path, { type: 'char', mode: 0o644, major: 1, minor: 5 }),
    directory: (path) => mkdirSync(path),
    loop: (path) => symlinkSync('passwd', path),
    sparse: (path) => {
      const fd = openSync(path, 'w')
      ftruncateSync(fd, 4 * 1024 ** 3)
      closeSync(fd)
    },
  }
  for (const [name, create] of Object.entries(make)) {
    const root = rootfs()
    create(join(root, 'etc/passwd'))
    assert.throws(() => readUserFiles(linux, root), failed, name)
  }
})
