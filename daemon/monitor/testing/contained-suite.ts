/** What a monitor must do for containers that are really contained: terminals, users, PID namespaces, memory limits. */
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readlinkSync } from 'node:fs'
import { describe, test } from 'node:test'
import { linux } from '#linux/linux.ts'
import type { MonitorClient } from '../monitor-client.ts'
import { eventually, Monitored, type MonitoredInput, type Rig } from './monitored.ts'

const text = (box: Monitored): string => box.output('stdout').toString()

export function containedSuite(rig: Rig): void {
  const container = (input: MonitoredInput) => new Monitored(rig, input)
  const ended = (client: MonitorClient) => Promise.race([client.exited, client.lost.then(() => assert.fail('lost'))])

  describe(`monitor of real containers (${rig.name})`, () => {
    test('gives a terminal, to the end of its output', async () => {
      await using box = container({
        terminal: true,
        command: 'tty; test -t 0 && test -t 1 && echo yes; echo last >&2; exit 3',
      })
      const { code } = await ended(await box.start())
      assert.deepEqual([code, text(box)], [3, '/dev/pts/0\r\nyes\r\nlast\r\n'])
      assert.equal(box.report(), '', 'EIO is the end, no failure')
    })

    test('lives in a directory whose name is longer than a socket address', async () => {
      await using box = container({ longName: true, terminal: true, command: 'echo far' })
      assert.equal((await ended(await box.start())).code, 0)
      assert.equal(text(box), 'far\r\n')
    })

    test('resizes the terminal', async () => {
      await using box = container({
        terminal: true,
        command: 'trap "stty size; exit 0" WINCH; echo ready; while :; do sleep 0.1; done',
      })
      const client = await box.start()
      assert.ok(await eventually(() => text(box).includes('ready')))
      await client.resize({ width: 123, height: 45 })
      assert.equal((await ended(client)).code, 0)
      assert.match(text(box), /^45 123\r$/m)
    })

    test('a terminal that nobody holds for a moment is still there afterwards', async () => {
      const command = 'exec <&- >&- 2>&-; sleep 0.5; exec >/dev/pts/0; echo back'
      await using box = container({ terminal: true, command })
      await ended(await box.start())
      assert.equal(text(box), 'back\r\n')
    })

    test('says why there is no container with a terminal', async () => {
      await using box = container({ terminal: true, command: ['/bin/nonesuch'] })
      await assert.rejects((await box.launch()).create(), { kind: 'failed-precondition', message: /nonesuch/ })
    })

    test('any user of the container can open /dev/stdout', async () => {
      const command = 'echo one > /proc/self/fd/1; echo two > /proc/self/fd/2; readlink /proc/self/fd/1'
      await using box = container({ user: 1234, command })
      assert.equal((await ended(await box.start())).code, 0)
      assert.match(text(box), /^one\npipe:/)
      assert.equal(box.output('stderr').toString(), 'two\n')
    })

    test('the container inherits nothing: signals, descriptors, environment, score', async () => {
      const command =
        'grep -E "^Sig(Blk|Ign)" /proc/self/status; ls /proc/$$/fd; env; cat /proc/self/oom_score_adj; umask'
      await using box = container({ command })
      await ended(await box.start())
      const lines = text(box)
        .split('\n')
        .filter((line) => !/^(PWD|SHLVL|_|OLDPWD|HOME)=/.test(line))
      const none = '0'.repeat(16)
      // The shell opens nothing; runc closes what it has opened itself.
      assert.deepEqual(lines, [`SigBlk:\t${none}`, `SigIgn:\t${none}`, '0', '1', '2', 'PATH=/bin', '0', '0022', ''])
    })

    test('without a PID namespace of its own, the rest is killed and its output kept', async () => {
      const command = '(while :; do sleep 0.05; echo more; done) & sleep 0.3; exit 7'
      await using box = container({ hostPidNamespace: true, command })
      const { code } = await ended(await box.start())
      assert.equal(code, 7)
      assert.match(text(box), /^(more\n)+$/)
      assert.deepEqual(linux.cgroupProcesses(box.options.cgroupPath), [])
    })

    test('buries the orphans of a container without a PID namespace of its own', async () => {
      const command = 'for i in 1 2 3 4 5; do (sleep 0.05 &) ; done; sleep 0.5; echo waited; sleep 100'
      await using box = container({ hostPidNamespace: true, command })
      const { pid } = await box.start()
      assert.ok(await eventually(() => text(box).includes('waited')))
      assert.deepEqual(linux.childrenOf(pid).filter(linux.isZombie), [])
    })

    test('says that memory was short', async (t) => {
      if (linux.cgroupDirectory('memory', '/') === undefined) return t.skip('host lacks the memory controller')
      // tail keeps the last line, and this one never ends.
      const input = { memoryBytes: 16 * 1024 * 1024, command: ['/bin/busybox', 'tail', '-n', '1', '/dev/zero'] }
      await using box = container(input)
      const { oomKilled, code, signal } = await ended(await box.start())
      assert.deepEqual({ oomKilled, code, signal }, { oomKilled: true, code: 137, signal: 9 })
    })

    test('holds no descriptor of its own making in the container, and few itself', async () => {
      await using box = container({ command: 'sleep 100' })
      const client = await box.start()
      const fds = readdirSync(`/proc/${client.pid}/fd`)
      assert.ok(fds.length < 32, `monitor has ${fds.length} descriptors`)
      const links = fds.flatMap((fd) =>
        existsSync(`/proc/${client.pid}/fd/${fd}`) ? [readlinkSync(`/proc/${client.pid}/fd/${fd}`)] : [],
      )
      assert.ok(!links.some((link) => link.endsWith('config.json')))
    })
  })
}
