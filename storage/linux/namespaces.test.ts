import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { readlink } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { isMountpoint, mountTmpfs, setPropagation } from './mount.ts'
import {
  createNamespaces,
  inNamespaces,
  isPinned,
  pinProcessNamespace,
  setHostname,
  type ThreadNamespace,
  unpinNamespace,
} from './namespaces.ts'
import { setLinkUp } from './netdev.ts'
import { scratch } from './testing/scratch.ts'

const KINDS = ['net', 'ipc', 'uts'] as const
const current = (): string[] => KINDS.map((kind) => readlinkSync(`/proc/thread-self/ns/${kind}`))
const openFds = (): number => readdirSync('/proc/self/fd').length
const pinsIn = (directory: string) => ({
  net: join(directory, 'net'),
  ipc: join(directory, 'ipc'),
  uts: join(directory, 'uts'),
})

/** Fails unless the thread, its descriptors and the directory are as they were. */
const expectNothingHappened = (directory: string, work: () => void): void => {
  const before = { namespaces: current(), fds: openFds(), files: readdirSync(directory) }
  work()
  assert.deepEqual({ namespaces: current(), fds: openFds(), files: readdirSync(directory) }, before)
}

test('new namespaces are pinned, configured from inside, entered again and let go', async (t) => {
  const directory = scratch(t)
  const pins = pinsIn(directory)
  const before = { namespaces: current(), host: hostname(), fds: openFds() }
  let inside: string[] = []
  createNamespaces({
    kinds: KINDS,
    pins,
    inside: () => {
      inside = current()
      setHostname('cricket-pod')
      setLinkUp('lo')
      writeFileSync('/proc/sys/kernel/shmmni', '1234')
      writeFileSync('/proc/sys/net/ipv4/ip_forward', '1')
    },
  })
  assert.deepEqual({ namespaces: current(), host: hostname(), fds: openFds() }, before)
  KINDS.forEach((kind, index) => {
    assert.notEqual(inside[index], before.namespaces[index])
    assert.ok(isPinned(pins[kind]))
  })
  const seen = inNamespaces(pins, () => ({
    namespaces: current(),
    host: hostname(),
    shmmni: readFileSync('/proc/sys/kernel/shmmni', 'utf8').trim(),
    forward: readFileSync('/proc/sys/net/ipv4/ip_forward', 'utf8').trim(),
    loopback: readFileSync('/proc/thread-self/net/fib_trie', 'utf8').includes('127.0.0.1'),
  }))
  assert.deepEqual(seen, { namespaces: inside, host: 'cricket-pod', shmmni: '1234', forward: '1', loopback: true })
  assert.notEqual(readFileSync('/proc/sys/kernel/shmmni', 'utf8').trim(), '1234')
  // The pool threads have not moved either.
  const pool = await Promise.all(Array.from({ length: 16 }, () => readlink('/proc/thread-self/ns/net')))
  assert.deepEqual(new Set(pool), new Set([before.namespaces[0]]))
  for (const kind of KINDS) {
    unpinNamespace(pins[kind])
    unpinNamespace(pins[kind])
    assert.equal(isPinned(pins[kind]), false)
  }
  assert.deepEqual(readdirSync(directory), [])
})

test('a failure inside leaves nothing', (t) => {
  const directory = scratch(t)
  const fail = (inside: () => void, expected: object) =>
    expectNothingHappened(directory, () => {
      assert.throws(() => createNamespaces({ kinds: KINDS, pins: pinsIn(directory), inside }), expected)
    })
  fail(() => setLinkUp('no-such-device'), { code: 'ENODEV', path: 'no-such-device' })
  fail(() => void writeFileSync('/proc/sys/kernel/does-not-exist', ''), { code: 'ENOENT' })
  fail(async () => {}, TypeError)
})

test('a failure to pin the second or third namespace takes the earlier pins back', (t) => {
  for (const taken of ['ipc', 'uts'] as const) {
    const directory = scratch(t)
    const pins = pinsIn(directory)
    writeFileSync(pins[taken], 'in the way')
    expectNothingHappened(directory, () =>
      assert.throws(() => createNamespaces({ kinds: KINDS, pins }), { code: 'EEXIST' }),
    )
    expectNothingHappened(directory, () => {
      const missing = { ...pins, [taken]: join(directory, 'missing', taken) }
      assert.throws(() => createNamespaces({ kinds: KINDS, pins: missing }), { code: 'ENOENT' })
    })
  }
  assert.throws(() => createNamespaces({ kinds: [], pins: {} }), TypeError)
})

test('a process that cannot get back to its namespaces aborts', () => {
  const module = JSON.stringify(new URL('./namespaces.ts', import.meta.url).href)
  // What brings the thread home are descriptors of namespaces: without them there is no way.
  const code = `import { createNamespaces } from ${module}; import { closeSync, readdirSync, readlinkSync } from 'node:fs'
    const lose = () => { for (const fd of readdirSync('/proc/self/fd')) { let to = ''; try { to = readlinkSync('/proc/self/fd/' + fd) } catch {}
      if (to.startsWith('uts:')) closeSync(Number(fd)) } throw new Error('and then this') }
    try { createNamespaces({ kinds: ['uts'], pins: { uts: '/tmp/never-made' }, inside: lose }) } catch {} process.exit(0)`
  const { signal, status } = spawnSync(process.execPath, ['--input-type=module', '-e', code], {
    cwd: '/',
    stdio: 'ignore',
  })
  assert.deepEqual({ signal, status }, { signal: 'SIGABRT', status: null })
})

test('errors inside pinned namespaces come out, and the thread is home', (t) => {
  const directory = scratch(t)
  const pins = pinsIn(directory)
  createNamespaces({ kinds: KINDS, pins })
  expectNothingHappened(directory, () => {
    const thrown = new Error('from inside')
    assert.throws(
      () =>
        inNamespaces(pins, () => {
          throw thrown
        }),
      thrown,
    )
    assert.throws(() => inNamespaces({ net: pins.net, uts: pins.ipc }, () => {}), { code: 'EINVAL', path: pins.ipc })
    assert.throws(() => inNamespaces({ net: join(directory, 'missing') }, () => {}), { code: 'ENOENT' })
    assert.throws(() => inNamespaces({ uts: pins.uts }, async () => {}), TypeError)
    assert.equal(
      inNamespaces({}, () => 5),
      5,
    )
  })
  writeFileSync(join(directory, 'file'), '')
  assert.throws(() => inNamespaces({ net: join(directory, 'file') }, () => {}), { code: 'EINVAL' })
  assert.equal(isPinned(join(directory, 'file')), false)
  assert.equal(isPinned(join(directory, 'missing')), false)
})

test('a namespace of another process can be pinned and outlives it', async (t) => {
  const directory = scratch(t)
  const child = await inOtherMounts(t, 'private', ['--uts'])
  const path = join(directory, 'uts')
  pinProcessNamespace(child.pid ?? 0, 'uts', path)
  const theirs = readlinkSync(`/proc/${child.pid}/ns/uts`)
  child.kill('SIGKILL')
  await once(child, 'exit')
  assert.equal(
    inNamespaces({ uts: path }, () => readlinkSync('/proc/thread-self/ns/uts')),
    theirs,
  )
  unpinNamespace(path)
  assert.throws(() => pinProcessNamespace(child.pid ?? 0, 'uts', path), { code: 'ENOENT' })
  assert.equal(existsSync(path), false)
  assert.throws(() => pinProcessNamespace(-1, 'uts', path), TypeError)
})

/** A process in a mount namespace of its own, that has been set up when this returns. */
const inOtherMounts = async (t: TestContext, propagation: string, more: string[] = []): Promise<ChildProcess> => {
  const args = ['--mount', '--propagation', propagation, ...more, '/bin/sh', '-c', 'echo ready; exec sleep 60']
  const child = spawn('/usr/bin/unshare', args, { stdio: ['ignore', 'pipe', 'ignore'] })
  t.after(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  return child
}

const mountsSeenBy = (pid: number | undefined, path: string): number =>
  readFileSync(`/proc/${pid}/mountinfo`, 'utf8')
    .split('\n')
    .filter((line) => line.split(' ')[4] === path).length

for (const sharing of ['private', 'shared'] as const) {
  test(`pins work the same below a ${sharing} mount, with copies of them elsewhere`, async (t) => {
    const directory = join(scratch(t), 'run')
    mkdirSync(directory)
    mountTmpfs(directory)
    setPropagation(directory, sharing)
    const pins = { net: join(directory, 'net') } satisfies Partial<Record<ThreadNamespace, string>>
    const slave = await inOtherMounts(t, 'slave')
    createNamespaces({ kinds: ['net'], pins })
    assert.equal(mountsSeenBy(slave.pid, pins.net), sharing === 'shared' ? 1 : 0)
    // This one copied the pin for itself, and no unmounting of ours travels to it.
    const copy = await inOtherMounts(t, 'private')
    assert.equal(mountsSeenBy(copy.pid, pins.net), 1)
    const id = inNamespaces(pins, () => readlinkSync('/proc/thread-self/ns/net'))
    assert.notEqual(id, readlinkSync('/proc/thread-self/ns/net'))
    unpinNamespace(pins.net)
    assert.equal(isMountpoint(pins.net), false)
    assert.equal(mountsSeenBy(slave.pid, pins.net), 0)
    assert.equal(mountsSeenBy(copy.pid, pins.net), 0, 'the copy does not keep the namespace')
    assert.equal(existsSync(pins.net), false)
  })
}
