/** The monitor among processes: limits, cgroup, adopted children, kills for want of memory. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { linux } from '#linux/linux.ts'
import { openFilesLimit } from '#linux/rlimit.ts'
import type { MonitorClient } from '../monitor-client.ts'
import { eventually, Monitored, type MonitoredInput, type Rig } from './monitored.ts'

const ended = (client: MonitorClient) => Promise.race([client.exited, client.lost.then(() => assert.fail('lost'))])
const lacksMemory = () => linux.cgroupDirectory('memory', '/') === undefined && 'host lacks the memory controller'
const MiB = 1024 * 1024
/** Grows until the kernel has enough of it: the last line never ends. */
const EAT = 'tail -n 1 /dev/zero'

export function processSuite(rig: Rig, { children }: { children: number }): void {
  const container = (input: MonitoredInput) => new Monitored(rig, input)

  describe(`monitor among processes (${rig.name})`, () => {
    test('the container has the limit on open files it is to have, whatever engine and runtime have raised', async () => {
      await using usual = container({ command: 'ulimit -Sn; ulimit -Hn', openFiles: 1024 })
      const client = await usual.start()
      const own = /^Max open files\s+(\d+)/m.exec(readFileSync(`/proc/${client.pid}/limits`, 'latin1'))?.[1]
      await ended(client)
      const { hard } = openFilesLimit()
      assert.equal(usual.output('stdout').toString(), `1024\n${hard}\n`)
      assert.equal(own, String(hard), 'the engine does raise it: or this test would prove nothing')
    })

    test('lives in the cgroup it was given, its container in its own', async () => {
      const monitorCgroup = `/cricket-monitor-test/${process.pid}-monitors`
      try {
        await using box = container({ command: 'cat /proc/self/cgroup; sleep 100', monitorCgroup })
        const client = await box.start()
        const all = readFileSync(`/proc/${client.pid}/cgroup`, 'latin1').trim().split('\n')
        assert.ok(
          all.every((line) => line.endsWith(`:${monitorCgroup}`)),
          all.join(' '),
        )
        // The fake runtime makes no cgroup.
        if (!rig.real) return
        assert.deepEqual(linux.cgroupProcesses(monitorCgroup), [client.pid])
        assert.ok(await eventually(() => box.lines().length > 0))
        assert.ok(!box.output('stdout').includes(monitorCgroup))
      } finally {
        await linux.removeCgroup(monitorCgroup)
      }
    })

    test(`buries ${children} orphans and keeps init’s exit apart`, async () => {
      const command = `i=0; while [ $i -lt ${children} ]; do (:&); i=$((i+1)); done; echo done; read x; exit 11`
      await using box = container({ hostPidNamespace: true, command, stdin: true })
      const client = await box.start()
      assert.ok(await eventually(() => box.output('stdout').toString() === 'done\n', 60_000))
      assert.ok(await eventually(() => linux.childrenOf(client.pid).filter(linux.isZombie).length === 0, 1000))
      await client.closeStdin()
      assert.equal((await ended(client)).code, 11)
    })

    if (!rig.real) return

    test('a child killed for want of memory does not make an OOM of a good end', async (t) => {
      const skip = lacksMemory()
      if (skip) return t.skip(skip)
      await using box = container({ memoryBytes: 16 * MiB, command: `${EAT}; echo $?; exit 0` })
      const { oomKilled, code } = await ended(await box.start())
      assert.deepEqual(
        { oomKilled, code, said: box.output('stdout').toString() },
        { oomKilled: false, code: 0, said: '137\n' },
      )
    })

    test('nor of an end by other hands long after', async (t) => {
      const skip = lacksMemory()
      if (skip) return t.skip(skip)
      await using box = container({ memoryBytes: 16 * MiB, command: `${EAT}; echo over; sleep 2.5; exit 3` })
      const { oomKilled, code } = await ended(await box.start())
      assert.deepEqual({ oomKilled, code }, { oomKilled: false, code: 3 })
    })

    test('an init that ends because its child was killed for want of memory is one', async (t) => {
      const skip = lacksMemory()
      if (skip) return t.skip(skip)
      await using box = container({ memoryBytes: 16 * MiB, command: `${EAT} || exit 137` })
      const { oomKilled, code } = await ended(await box.start())
      assert.deepEqual({ oomKilled, code }, { oomKilled: true, code: 137 })
    })

    test('a kill by hand is none', async (t) => {
      const skip = lacksMemory()
      if (skip) return t.skip(skip)
      await using box = container({ memoryBytes: 16 * MiB, command: 'sleep 100' })
      const client = await box.launch()
      const init = await client.create()
      await client.start()
      linux.signalProcess(init, 9)
      const { oomKilled, code } = await ended(client)
      assert.deepEqual({ oomKilled, code }, { oomKilled: false, code: 137 })
    })

    test('a terminal takes input, and keeps only its sender waiting', async () => {
      await using box = container({
        terminal: true,
        stdin: true,
        command: 'stty raw -echo; echo ready; read x; echo "got $x"; sleep 100',
      })
      const client = await box.start()
      const stream = await client.attach({ stdin: true, stdout: true, stderr: false })
      let said = ''
      stream.stdout.on('data', (bytes) => {
        said += bytes
      })
      assert.ok(await eventually(() => box.output('stdout').includes('ready')))
      stream.stdin?.write('hello\n')
      assert.ok(await eventually(() => said.includes('got hello')))
      let taken = 0
      for (let round = 0; round < 100; round++) stream.stdin?.write(Buffer.alloc(65536), () => taken++)
      await delay(500)
      assert.ok(taken < 50, `${taken} blocks were taken`)
      await client.resize({ width: 100, height: 40 })
      assert.equal((await client.status()).state, 'alive')
      stream.close()
      await delay(100)
      // The end of a terminal's input is what its user types: nobody else ends it.
      assert.equal((await client.status()).state, 'alive')
    })
  })
}
