/**
 * Rows E2, E3 and E14: commands that begin while their container is stopped, commands that are not there, clients that leave at every
 * step. CRICKET_LEAVERS is how many there are of the last two.
 */

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type ContainerConfig, type DeepPartial, NamespaceMode } from '#proto/generated/api.ts'
import { useWorld } from './harness.ts'
import { isPeer } from './peer.ts'
import { containerConfig, podConfig, removePod, startPod, until } from './pods.ts'
import { type End, openCommand, TRANSPORTS, type Transport } from './remote-command.ts'

const ROUNDS = 12
const AT_ONCE = 6
const LEAVERS = Number(process.env.CRICKET_LEAVERS ?? 60)
const ON_THE_NODE = { pid: NamespaceMode.NODE }

/** Processes of the machine that were called with exactly these words. */
const running = (...words: string[]): string[] =>
  readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8') === `${words.join('\0')}\0`
    } catch {
      return false
    }
  })

describe('streaming, while things end', { skip: isPeer && 'ours' }, () => {
  const world = useWorld()

  const start = async (name: string, command: string[], overrides: DeepPartial<ContainerConfig> = {}) => {
    const sandbox = await podConfig(world.site, name)
    return startPod(world.cri, sandbox, containerConfig('main', world.image, command, overrides))
  }

  const descriptors = () => readdirSync(`/proc/${world.runtime.pid}/fd`).length

  it('E14: no command outlives a stop that it races with, not even in the PID namespace of the node', async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const seconds = String(700_000 + round)
      const linux = { securityContext: { namespaceOptions: ON_THE_NODE } }
      const pod = await start(`race-${round}`, ['sleep', '1000'], { linux })
      const { containerId } = pod
      const script = `(sleep ${seconds} &) ; exec sleep ${seconds}`
      const begin = async (index: number): Promise<End> => {
        const asked = { tty: index % 2 === 0, stdout: true }
        await sleep(index * round)
        const { url } = await world.cri.runtime.exec({ containerId, cmd: ['sh', '-c', script], ...asked })
        return (await openCommand(TRANSPORTS[index % TRANSPORTS.length] ?? 'spdy', url, asked)).ended
      }
      const commands = Array.from({ length: AT_ONCE }, (_, index) => begin(index))
      await sleep(AT_ONCE * round)
      await world.cri.runtime.stopContainer({ containerId, timeout: 0n })
      const isGone = async () => (running('sleep', seconds).length === 0 ? true : undefined)
      await until('what the commands began is gone', 2_000, isGone)
      await Promise.allSettled(commands)
      await sleep(100)
      assert.deepEqual(running('sleep', seconds), [], 'when all clients have been answered')
      await removePod(world.cri, pod.sandboxId)
    }
  })

  it('E3: clients that leave at every step of an attachment leave nothing', async () => {
    const { containerId } = await start('leavers', ['sh', '-c', 'while :; do echo more; sleep 0.01; done'])
    const asked = { stdout: true, stderr: true }
    const leave = async (index: number): Promise<void> => {
      const { url } = await world.cri.runtime.attach({ containerId, ...asked })
      // Some never come.
      if (index % 5 === 0) return
      const client = await openCommand(TRANSPORTS[index % TRANSPORTS.length] ?? 'spdy', url, asked)
      await sleep(index % 5 === 1 ? 0 : 20 * (index % 4))
      if (index % 7 === 0) client.stall()
      client.kill()
    }
    await leave(1)
    await sleep(500)
    const before = descriptors()
    for (let round = 0; round < LEAVERS / 10; round++)
      await Promise.all(Array.from({ length: 10 }, (_, index) => leave(10 * round + index)))
    await until('the descriptors are back', 20_000, async () => (descriptors() <= before ? true : undefined))
    const last = await openCommand('spdy', (await world.cri.runtime.attach({ containerId, ...asked })).url, asked)
    await until('the container still speaks', 20_000, async () => (last.text().includes('more') ? true : undefined))
    last.kill()
  })

  it('E2: terminals whose command is not there leave nothing', async () => {
    const { containerId } = await start('nothing', ['sleep', '1000'])
    const asked = { tty: true, stdout: true }
    const exec = async (transport: Transport) => {
      const { url } = await world.cri.runtime.exec({ containerId, cmd: ['nope'], ...asked })
      return openCommand(transport, url, asked)
    }
    await (await exec('spdy')).ended
    const before = descriptors()
    const threads = () => readdirSync(`/proc/${world.runtime.pid}/task`).length
    const threadsBefore = threads()
    for (let round = 0; round < LEAVERS / 10; round++) {
      const commands = await Promise.all(Array.from({ length: 10 }, () => exec(round % 4 === 3 ? 'websocket' : 'spdy')))
      for (const command of commands) command.resize(10, 10)
      for (const command of commands) assert.deepEqual(await command.ended, { code: 127 })
    }
    await until('the descriptors are back', 20_000, async () => (descriptors() <= before ? true : undefined))
    await until('the threads are back', 20_000, async () => (threads() <= threadsBefore ? true : undefined))
    assert.doesNotMatch(readFileSync(`/proc/${world.runtime.pid}/maps`, 'utf8'), /node_modules/)
  })
})
