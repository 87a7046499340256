/** Exec as clients see it, by both transports: bytes, codes, ends, and what is left behind. */

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { status } from '@grpc/grpc-js'
import { failsWith } from './cri-client.ts'
import { useWorld } from './harness.ts'
import { isPeer } from './peer.ts'
import { containerConfig, createContainer, podConfig, startPod, until } from './pods.ts'
import { memoryOf } from './process-memory.ts'
import { type CommandOptions, openCommand, type RemoteCommand, TRANSPORTS, type Transport } from './remote-command.ts'

const IDLE = ['sleep', '1000']
const MiB = 1024 * 1024

describe('Exec', { skip: isPeer && 'ours' }, () => {
  const world = useWorld()

  const start = async (name: string, overrides = {}) =>
    startPod(world.cri, await podConfig(world.site, name), containerConfig('main', world.image, IDLE, overrides))

  interface Wanted extends CommandOptions {
    tty?: boolean
    stdin?: boolean
    stdout?: boolean
    stderr?: boolean
  }

  async function exec(by: Transport, containerId: string, cmd: string[], wanted: Wanted = {}): Promise<RemoteCommand> {
    const { tty = false, stdin = false, stdout = true, stderr = !tty, ...options } = wanted
    const asked = { tty, stdin, stdout, stderr }
    const { url } = await world.cri.runtime.exec({ containerId, cmd, ...asked })
    return openCommand(by, url, asked, options)
  }
  const sh = (by: Transport, containerId: string, script: string, wanted?: Wanted) =>
    exec(by, containerId, ['sh', '-c', script], wanted)

  /** The arguments of every process in the container but those of this look. */
  const processes = async (containerId: string): Promise<string> => {
    const { stdout } = await world.cri.runtime.execSync({ containerId, cmd: ['ps', '-o', 'args'], timeout: 20n })
    return stdout.toString()
  }
  const untilRuns = (containerId: string, words: string) =>
    until(`"${words}" runs`, 20_000, async () => ((await processes(containerId)).includes(words) ? true : undefined))
  const untilGone = (containerId: string, words: string) =>
    until(`"${words}" is gone`, 20_000, async () => ((await processes(containerId)).includes(words) ? undefined : true))
  const descriptors = () => readdirSync(`/proc/${world.runtime.pid}/fd`).length

  for (const by of TRANSPORTS) {
    describe(`by ${by}`, () => {
      it('gives output, errors and the exact exit code', async () => {
        const { containerId } = await start(`codes-${by}`)
        const both = await sh(by, containerId, 'echo out; echo err >&2; exit 1')
        assert.deepEqual(await both.ended, { code: 1 })
        assert.equal(both.text(), 'out\n')
        assert.equal(both.text('stderr'), 'err\n')
        assert.deepEqual(await (await sh(by, containerId, 'true')).ended, { code: 0 })
        assert.deepEqual(await (await sh(by, containerId, 'kill -9 $$')).ended, { code: 137 })
        assert.deepEqual(await (await sh(by, containerId, 'no-such-program')).ended, { code: 127 })
        assert.deepEqual(await (await sh(by, containerId, 'exit 255')).ended, { code: 255 })
      })

      it('tells of a command that cannot be started as a shell does, in the words of the runtime', async () => {
        const { containerId } = await start(`missing-${by}`)
        const dir = join(world.site.path('state'), 'containers', containerId)
        const before = (await readdir(dir)).sort()
        for (const tty of [false, true]) {
          const missing = await exec(by, containerId, ['no-such-program'], { tty })
          assert.deepEqual(await missing.ended, { code: 127 })
          assert.match(missing.text(tty ? 'stdout' : 'stderr'), /no-such-program/)
          assert.deepEqual(await (await exec(by, containerId, ['/no/such'], { tty })).ended, { code: 127 })
          assert.deepEqual(await (await exec(by, containerId, ['/etc/passwd'], { tty })).ended, { code: 126 })
          assert.deepEqual(await (await exec(by, containerId, ['/etc'], { tty })).ended, { code: 126 })
        }
        const silent = await exec(by, containerId, ['no-such-program'], { stderr: false })
        assert.match(JSON.stringify(await silent.ended), /failure.*no-such-program/)
        assert.deepEqual((await readdir(dir)).sort(), before)
      })

      it('carries 300 MB out and in without a difference', async (t) => {
        const { containerId } = await start(`bulk-${by}`)
        const [piece, pieces] = [10 * MiB, 30]
        const size = piece * pieces
        // What a run-length or a repeated block would not show.
        await sh(by, containerId, `head -c ${piece} /dev/urandom > /tmp/piece`).then(({ ended }) => ended)
        const chunks: Buffer[] = []
        const once = await sh(by, containerId, 'cat /tmp/piece', {
          take: (_, bytes) => chunks.push(Buffer.from(bytes)),
        })
        assert.deepEqual(await once.ended, { code: 0 })
        const random = Buffer.concat(chunks)
        assert.equal(random.length, piece)
        const expected = createHash('sha256')
        for (let count = 0; count < pieces; count++) expected.update(random)
        const digest = expected.digest('hex')

        const hash = createHash('sha256')
        const begin = performance.now()
        const script = `for i in $(seq ${pieces}); do cat /tmp/piece; done`
        const out = await sh(by, containerId, script, { take: (_, bytes) => void hash.update(bytes), stderr: false })
        assert.deepEqual(await out.ended, { code: 0 })
        assert.equal(hash.digest('hex'), digest)
        const middle = performance.now()
        const inside = await sh(by, containerId, 'sha256sum', { stdin: true })
        for (let count = 0; count < pieces; count++) await inside.write(random)
        inside.closeInput()
        assert.deepEqual(await inside.ended, { code: 0 })
        assert.equal(inside.text().slice(0, 64), digest)
        const end = performance.now()
        const rate = (ms: number) => `${(size / MiB / (ms / 1000)).toFixed(0)} MiB/s`
        t.diagnostic(`${by}: out ${rate(middle - begin)}, in ${rate(end - middle)}`)
      })

      it('hands on the half-close of the input, and takes input that nobody reads', async () => {
        const { containerId } = await start(`half-${by}`)
        const command = await sh(by, containerId, 'cat; echo "and more"', { stdin: true })
        await command.write('something\n')
        command.closeInput()
        assert.deepEqual(await command.ended, { code: 0 })
        assert.equal(command.text(), 'something\nand more\n')
        const deaf = await sh(by, containerId, 'exec <&-; sleep 1; echo done', { stdin: true })
        for (let count = 0; count < 64; count++) await deaf.write(Buffer.alloc(64 * 1024))
        assert.deepEqual(await deaf.ended, { code: 0 })
        assert.equal(deaf.text(), 'done\n')
        const without = await sh(by, containerId, 'cat; readlink /proc/self/fd/0')
        assert.deepEqual(await without.ended, { code: 0 })
        assert.equal(without.text(), '/dev/null\n')
      })

      it('has a terminal of the right size from the start, and follows the client', async () => {
        const { containerId } = await start(`tty-${by}`)
        const script =
          'stty size; echo $TERM; test -t 0 && test -t 1 && test -t 2 && tty; trap "stty size; exit 7" WINCH; echo up; while :; do sleep 0.05; done'
        const command = await sh(by, containerId, script, { tty: true, stdin: true })
        command.resize(101, 37)
        await until('the command is up', 20_000, async () => (command.text().includes('up') ? true : undefined))
        // The runtime is sometimes late to take the carriage return of one of the two terminals away.
        assert.match(command.text(), /^37 101\r+\nxterm\r+\n\/dev\/pts\/\d\r+\nup/)
        command.resize(55, 66)
        assert.deepEqual(await command.ended, { code: 7 })
        assert.match(command.text(), /66 55/)
      })

      it('takes a big paste into a terminal', async () => {
        const { containerId } = await start(`paste-${by}`)
        const paste = Buffer.alloc(MiB, 'all work and no play makes a dull terminal\n')
        const script = `stty -echo -icanon; echo ready; sleep 0.5; head -c ${paste.length} | sha256sum`
        const command = await sh(by, containerId, script, { tty: true, stdin: true })
        await until('the terminal is set', 20_000, async () => (command.text().includes('ready') ? true : undefined))
        await command.write(paste)
        assert.deepEqual(await command.ended, { code: 0 })
        assert.match(command.text(), new RegExp(createHash('sha256').update(paste).digest('hex')))
      })

      it('takes ^C as an interrupt of what runs in the terminal', async () => {
        const { containerId } = await start(`interrupt-${by}`)
        const command = await sh(by, containerId, 'echo up; exec sleep 612', { tty: true, stdin: true })
        await until('it is up', 20_000, async () => (command.text().includes('up') ? true : undefined))
        await untilRuns(containerId, 'sleep 612')
        await command.write('\u0003')
        assert.deepEqual(await command.ended, { code: 130 })
      })

      for (const tty of [false, true]) {
        it(`leaves no process and no descriptor of a client that is killed, ${tty ? 'with' : 'without'} a terminal`, async () => {
          const { containerId } = await start(`killed-${by}-${tty}`)
          await processes(containerId)
          const before = descriptors()
          const tree = `sleep 701 & (sleep 702 & exec sleep 703) & setsid sleep 704 & (setsid sleep 705 &) ; (trap "" HUP TERM; sleep 706) & sleep 707`
          const command = await sh(by, containerId, tree, { tty, stdin: true })
          for (let n = 701; n <= 707; n++) await untilRuns(containerId, `sleep ${n}`)
          command.kill()
          await untilGone(containerId, 'sleep 70')
          await until('the descriptors are back', 20_000, async () => (descriptors() <= before ? true : undefined))
        })
      }
    })
  }

  it('ends with its container, and with nothing but a refusal when that does not run', async () => {
    const pod = await start('ending')
    const commands = [
      await sh('spdy', pod.containerId, 'sleep 801'),
      await sh('spdy', pod.containerId, 'sleep 802', { tty: true }),
    ]
    await untilRuns(pod.containerId, 'sleep 801')
    await untilRuns(pod.containerId, 'sleep 802')
    const late = await world.cri.runtime.exec({ containerId: pod.containerId, cmd: ['true'], stdout: true })
    await world.cri.runtime.stopContainer({ containerId: pod.containerId, timeout: 0n })
    for (const command of commands) assert.deepEqual(await command.ended, { code: 137 })
    assert.match(
      JSON.stringify(await (await openCommand('spdy', late.url, { stdout: true })).ended),
      /failure.*it is exited/,
    )
    const asked = { cmd: ['true'], stdout: true }
    await assert.rejects(
      world.cri.runtime.exec({ containerId: pod.containerId, ...asked }),
      failsWith(status.FAILED_PRECONDITION, /exited/),
    )
    const second = await createContainer(
      world.cri,
      pod.sandboxId,
      pod.sandbox,
      containerConfig('second', world.image, IDLE),
    )
    await assert.rejects(
      world.cri.runtime.exec({ containerId: second, ...asked }),
      failsWith(status.FAILED_PRECONDITION, /created/),
    )
  })

  it('refuses what makes no sense', async () => {
    const { containerId } = await start('nonsense')
    const refused = (request: object, code: status, message: RegExp) =>
      assert.rejects(
        world.cri.runtime.exec({ containerId, cmd: ['true'], stdout: true, ...request }),
        failsWith(code, message),
      )
    await refused({ cmd: [] }, status.INVALID_ARGUMENT, /cmd is empty/)
    await refused({ cmd: ['a\0b'] }, status.INVALID_ARGUMENT, /cmd\[0\] holds a NUL/)
    await refused({ stdout: false }, status.INVALID_ARGUMENT, /one of stdin, stdout and stderr/)
    await refused({ tty: true, stderr: true }, status.INVALID_ARGUMENT, /tty and stderr/)
    await refused({ containerId: '0'.repeat(64) }, status.NOT_FOUND, /0000/)
    await refused({ containerId: '' }, status.INVALID_ARGUMENT, /container id is empty/)
  })

  it('is what the container is, in all that the kernel tells of a process', async () => {
    const securityContext = {
      runAsUser: { value: 1000n },
      runAsGroup: { value: 3000n },
      supplementalGroups: [2000n],
      noNewPrivs: true,
      seccomp: { profileType: 0 },
      capabilities: { dropCapabilities: ['CHOWN'] },
    }
    const { containerId } = await start('identity', {
      envs: [{ key: 'MINE', value: Buffer.from('yes') }],
      workingDir: '/tmp',
      linux: { securityContext, resources: { oomScoreAdj: 500n } },
    })
    const facts = (pid: string) =>
      `grep -E "Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:|Cpus_allowed:" /proc/${pid}/status; cat /proc/${pid}/cgroup /proc/${pid}/limits /proc/${pid}/oom_score_adj; readlink /proc/${pid}/cwd /proc/${pid}/ns/*`
    for (const tty of [false, true]) {
      const command = await sh(
        'spdy',
        containerId,
        `${facts('1')}; echo ----; ${facts('$$')}; echo ----; echo $MINE $PWD`,
        { tty },
      )
      assert.deepEqual(await command.ended, { code: 0 })
      const [init, own, rest] = command.text().replaceAll('\r', '').split('----\n')
      assert.ok(init && init.length > 1000)
      assert.equal(own, init)
      assert.equal(rest, 'yes /tmp\n')
    }
    const open = await sh('spdy', containerId, 'echo by-name > /dev/stdout; ls -l /proc/self/fd | wc -l')
    assert.deepEqual(await open.ended, { code: 0 })
    assert.equal(open.text(), 'by-name\n5\n')
  })

  it('does not wait for what a command leaves in the background', async () => {
    const { containerId } = await start('background')
    const command = await sh('spdy', containerId, 'sleep 901 & echo started; exit 3')
    assert.deepEqual(await command.ended, { code: 3 })
    assert.equal(command.text(), 'started\n')
    assert.match(await processes(containerId), /sleep 901/)
  })

  it('bounds the memory for fifty clients that do not read', async (t) => {
    const { containerId } = await start('stalled')
    const before = (await memoryOf(world.runtime.pid)).privateDirty
    const commands = await Promise.all(
      Array.from({ length: 50 }, async (_, index) => {
        const command = await sh(index % 2 ? 'spdy' : 'websocket', containerId, 'yes')
        command.stall()
        return command
      }),
    )
    await sleep(5000)
    const grown = (await memoryOf(world.runtime.pid)).privateDirty - before
    t.diagnostic(`fifty stalled clients: ${(grown / MiB).toFixed(0)} MiB more`)
    assert.ok(grown < 150 * MiB, `${grown} bytes`)
    for (const command of commands) command.kill()
    await untilGone(containerId, 'yes')
  })
})
