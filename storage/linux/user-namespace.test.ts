/** User namespaces, what belongs to them, and mounts that show other owners. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { bindTree, canMapIds } from './bind-tree.ts'
import { isErrno } from './errno.ts'
import { unmount } from './mount.ts'
import { setHostname, unpinNamespace } from './namespaces.ts'
import { childrenOf } from './proc.ts'
import { createOwnedNamespaces, openUserNamespace } from './user-namespace.ts'

const top = mkdtempSync(join(tmpdir(), 'cricket-userns-'))
after(() => rmSync(top, { recursive: true, force: true }))
const root = process.getuid?.() === 0
const skip = root ? false : 'host lacks root'
const skipMapped = root && canMapIds(top) ? false : 'host lacks id-mapped mounts'
const map = { uids: { hostId: 200_000, size: 65_536 }, gids: { hostId: 300_000, size: 65_536 } }

test('openUserNamespace() leaves a namespace and no process', { skip }, () => {
  const before = childrenOf(process.pid).length
  const fd = openUserNamespace(map)
  assert.match(readlinkSync(`/proc/self/fd/${fd}`), /^user:\[\d+\]$/)
  closeSync(fd)
  assert.equal(childrenOf(process.pid).length, before)
})

test('namespaces that belong to a user namespace are pinned, named and empty of the host', { skip }, (t) => {
  const pins = { user: join(top, 'user'), net: join(top, 'net'), uts: join(top, 'uts'), ipc: join(top, 'ipc') }
  t.after(() => {
    for (const path of Object.values(pins)) unpinNamespace(path)
  })
  createOwnedNamespaces({ map, kinds: ['net', 'uts', 'ipc'], pins, inside: () => setHostname('inside') })
  assert.notEqual(hostname(), 'inside')
  const seen = (command: string) =>
    execFileSync(
      'nsenter',
      [`--user=${pins.user}`, `--net=${pins.net}`, `--uts=${pins.uts}`, `--ipc=${pins.ipc}`, 'sh', '-c', command],
      { encoding: 'utf8' },
    )
  // Root in there administers its own host name and network, and is nobody special on the host.
  const text = seen('hostname; hostname mine && hostname; ip link set lo up && echo up; cat /proc/self/uid_map')
  assert.match(text, /^inside\nmine\nup\n\s*0\s+200000\s+65536\n$/)
})

test("the message queues of the IPC namespace are the mapped root's, and the caller is who he was", { skip }, (t) => {
  const pins = { user: join(top, 'q-user'), ipc: join(top, 'q-ipc') }
  t.after(() => {
    for (const path of Object.values(pins)) unpinNamespace(path)
  })
  const identity = () => /^Uid:.*\nGid:.*$/m.exec(readFileSync('/proc/thread-self/status', 'utf8'))?.[0]
  const before = identity()
  createOwnedNamespaces({ map, kinds: ['ipc'], pins })
  assert.equal(identity(), before)
  const queues = join(top, 'queues')
  mkdirSync(queues)
  const script = `mount -t mqueue mqueue ${queues} && stat -c %u:%g ${queues}`
  const seen = execFileSync('unshare', ['-m', 'nsenter', `--ipc=${pins.ipc}`, 'sh', '-c', script], { encoding: 'utf8' })
  assert.equal(seen, '200000:300000\n')
})

test('a failure inside leaves nothing pinned', { skip }, () => {
  const pins = { user: join(top, 'f-user'), uts: join(top, 'f-uts') }
  const inside = () => {
    throw new Error('no')
  }
  assert.throws(() => createOwnedNamespaces({ map, kinds: ['uts'], pins, inside }), /no/)
  assert.equal(existsSync(pins.user) || existsSync(pins.uts), false)
  const bad = { uids: { hostId: 4_294_967_295, size: 5 }, gids: map.gids }
  assert.throws(
    () => createOwnedNamespaces({ map: bad, kinds: [], pins }),
    (error) => isErrno(error, 'EINVAL'),
  )
  assert.equal(existsSync(pins.user), false)
})

test('bindTree() shows other owners and changes no file', { skip: skipMapped }, (t) => {
  const source = join(top, 'source')
  const target = join(top, 'target')
  mkdirSync(source)
  mkdirSync(target)
  writeFileSync(join(source, 'file'), '')
  chownSync(join(source, 'file'), 7, 8)
  t.after(() => unmount(target, { detach: true }))
  bindTree({ source, target, idMap: map, readonly: true })
  const { uid, gid } = statSync(join(target, 'file'))
  assert.deepEqual([uid, gid], [200_007, 300_008])
  assert.deepEqual([statSync(join(source, 'file')).uid, statSync(source).uid], [7, 0])
  assert.throws(
    () => writeFileSync(join(target, 'new'), ''),
    (error) => isErrno(error, 'EROFS'),
  )
})

test('bindTree() of a file system that cannot map ids is EINVAL', { skip }, () => {
  assert.equal(canMapIds('/proc'), false)
  const call = () => bindTree({ source: '/proc', target: top, idMap: map })
  assert.throws(call, (error) => isErrno(error, 'EINVAL'))
  assert.equal(readFileSync('/proc/self/mounts', 'utf8').includes(` ${top} `), false)
})
