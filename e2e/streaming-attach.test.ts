/** Attach as clients see it: several of them, half-closes, sizes, and a container that never waits for any of them. */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { status } from '@grpc/grpc-js'
import { failsWith } from './cri-client.ts'
import { useWorld } from './harness.ts'
import { isPeer } from './peer.ts'
import { containerConfig, containerStatus, podConfig, startPod, until, untilExited } from './pods.ts'
import { type Asked, openCommand, type RemoteCommand, TRANSPORTS, type Transport } from './remote-command.ts'

describe('Attach', { skip: isPeer && 'ours' }, () => {
  const world = useWorld()

  const start = async (name: string, script: string, overrides = {}) =>
    startPod(
      world.cri,
      await podConfig(world.site, name),
      containerConfig('main', world.image, ['sh', '-c', script], overrides),
    )
  async function attach(by: Transport, containerId: string, asked: Asked): Promise<RemoteCommand> {
    const { url } = await world.cri.runtime.attach({ containerId, ...asked })
    return openCommand(by, url, asked)
  }
  const says = (command: RemoteCommand, words: string, stream: 'stdout' | 'stderr' = 'stdout') =>
    until(`a client reads "${words}"`, 20_000, async () => (command.text(stream).includes(words) ? true : undefined))

  for (const by of TRANSPORTS) {
    it(`shows several clients by ${by} what comes from then on, and ends with the container`, async () => {
      const script = 'echo before; while read line; do echo "out $line"; echo "err $line" >&2; done; exit 3'
      const { containerId } = await start(`several-${by}`, script, { stdin: true, stdinOnce: true })
      const outputs = { stdout: true, stderr: true }
      const first = await attach(by, containerId, { stdin: true, ...outputs })
      const others = [await attach(by, containerId, outputs), await attach(by, containerId, { stdout: true })]
      await sleep(500)
      await first.write('one\n')
      for (const client of [first, ...others]) await says(client, 'out one')
      await says(first, 'err one', 'stderr')
      assert.equal(others[1]?.text('stderr'), '')
      others[0]?.kill()
      await first.write('two\n')
      await says(first, 'out two')
      assert.equal((await containerStatus(world.cri, containerId)).exitCode, 0)
      first.closeInput()
      assert.deepEqual(await first.ended, { code: 0 })
      assert.deepEqual(await others[1]?.ended, { code: 0 })
      assert.equal((await untilExited(world.cri, containerId)).exitCode, 3)
      assert.doesNotMatch(first.text(), /before/)
    })

    it(`follows the size of the client's terminal by ${by}, and a detached container goes on`, async () => {
      const script = 'trap "stty size" WINCH; while :; do sleep 0.05; done'
      const { containerId } = await start(`tty-${by}`, script, { tty: true, stdin: true })
      const client = await attach(by, containerId, { tty: true, stdin: true, stdout: true })
      client.resize(77, 33)
      await says(client, '33 77')
      client.kill()
      const second = await attach(by, containerId, { tty: true, stdin: true, stdout: true })
      second.resize(44, 22)
      await says(second, '22 44')
      second.kill()
    })
  }

  it('never makes a container wait for a client that does not read', async () => {
    const script = 'sleep 1; head -c 20000000 /dev/zero | tr "\\0" x; echo; echo all said >&2; sleep 1000'
    const { containerId, logPath } = await start('stalled', script)
    const stalled = await attach('spdy', containerId, { stdout: true })
    stalled.stall()
    const reader = await attach('spdy', containerId, { stderr: true })
    await says(reader, 'all said', 'stderr')
    assert.ok(logPath)
    reader.kill()
    stalled.kill()
  })

  it('leaves the input open without stdin_once, for the next client', async () => {
    const { containerId } = await start('again', 'while read line; do echo "got $line"; done; echo end', {
      stdin: true,
    })
    for (const line of ['first', 'second']) {
      const client = await attach('spdy', containerId, { stdin: true, stdout: true })
      await client.write(`${line}\n`)
      await says(client, `got ${line}`)
      client.closeInput()
      await sleep(200)
      client.kill()
      await sleep(200)
    }
  })

  it('refuses what makes no sense', async () => {
    const { containerId } = await start('nonsense', 'sleep 1000')
    const refused = (request: object, code: status, message: RegExp) =>
      assert.rejects(world.cri.runtime.attach({ containerId, ...request }), failsWith(code, message))
    await refused({}, status.INVALID_ARGUMENT, /one of stdin, stdout and stderr/)
    await refused({ stdout: true, tty: true }, status.INVALID_ARGUMENT, /has no terminal/)
    await refused({ stdout: true, stdin: true }, status.INVALID_ARGUMENT, /has none/)
    await refused({ stdout: true, stderr: true, tty: true }, status.INVALID_ARGUMENT, /tty and stderr/)
    await refused({ stdout: true, containerId: '0'.repeat(64) }, status.NOT_FOUND, /0000/)
    await world.cri.runtime.stopContainer({ containerId, timeout: 0n })
    await refused({ stdout: true }, status.FAILED_PRECONDITION, /exited/)
  })
})
