/** Row E9: nothing of the daemon or its monitors can be reached but through files of root's. */

import assert from 'node:assert/strict'
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { useWorld } from './harness.ts'
import { processesOf } from './leftovers.ts'
import { isPeer } from './peer.ts'
import { containerConfig, podConfig, startPod } from './pods.ts'

/** Inodes of the sockets that a process has open. */
const socketsOf = (pid: number): Set<string> =>
  new Set(
    readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        const [, inode] = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`)) ?? []
        return inode === undefined ? [] : [inode]
      } catch {
        return []
      }
    }),
  )

/** Names of the unix sockets that a process has open; abstract ones begin with "@". */
function unixNames(pid: number): string[] {
  const own = socketsOf(pid)
  const lines = readFileSync(`/proc/${pid}/net/unix`, 'utf8').trim().split('\n').slice(1)
  return lines.flatMap((line) => {
    const [, , , , , , inode = '', name] = line.trim().split(/\s+/)
    return name !== undefined && own.has(inode) ? [name] : []
  })
}

/** Addresses on which a process listens by TCP. */
function listening(pid: number): string[] {
  const own = socketsOf(pid)
  const lines = ['tcp', 'tcp6'].flatMap((file) => readFileSync(`/proc/${pid}/net/${file}`, 'utf8').trim().split('\n'))
  return lines.flatMap((line) => {
    const fields = line.trim().split(/\s+/)
    return fields[3] === '0A' && own.has(fields[9] ?? '') ? [fields[1] ?? ''] : []
  })
}

describe('what can be reached', { skip: isPeer && 'ours' }, () => {
  const world = useWorld()

  it('E9: is behind files that only root may open; no abstract socket, no inspector by SIGUSR1', async () => {
    await startPod(
      world.cri,
      await podConfig(world.site, 'up'),
      containerConfig('main', world.image, ['sleep', '1000']),
    )
    const daemon = world.runtime.pid
    const before = listening(daemon)
    assert.ok(
      before.every((address) => /^(0100007F|0{24}01000000):/.test(address)),
      `only loopback: ${before}`,
    )
    process.kill(daemon, 'SIGUSR1')
    await sleep(500)
    assert.equal((await world.cri.runtime.version({})).runtimeName, 'cricket')
    assert.deepEqual(listening(daemon), before)
    const monitors = (await processesOf(world.site, [daemon])).filter(({ name }) => name.includes('conmon'))
    assert.ok(monitors.length > 0)
    for (const pid of [daemon, ...monitors.map((monitor) => monitor.pid)]) {
      for (const name of unixNames(pid)) {
        assert.ok(name.startsWith('/'), `"${name}" is a file`)
        // Bound through the descriptor of its directory, which is root's (0700): the name says no more.
        if (name.startsWith('/proc/self/fd/')) continue
        const isClosed = (path: string) => (statSync(path).mode & 0o007) === 0
        assert.ok(isClosed(name) || isClosed(dirname(name)), `"${name}" is not for everybody`)
        assert.equal(statSync(name).gid, 0)
      }
    }
  })
})
