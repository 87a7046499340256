/** Pods by runtime handler, and handlers that come and go while the daemon runs. */

import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { after, describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import { parse, stringify } from 'yaml'
import { ContainerState } from '#proto/generated/api.ts'
import { failsWith } from './cri-client.ts'
import { crunProgram, crunSkip } from './crun.ts'
import { useWorld } from './harness.ts'
import { isPeer } from './peer.ts'
import {
  containerConfig,
  containerStatus,
  createContainer,
  podConfig,
  readLog,
  removeAllPods,
  removePod,
  until,
  untilExited,
} from './pods.ts'
import { openCommand, TRANSPORTS, type Transport } from './remote-command.ts'

const crun = crunProgram()
after(() => crun.remove())

describe('runtime handlers', { skip: isPeer ? 'ours' : crunSkip }, () => {
  const world = useWorld({ config: { sections: { runtimes: { handlers: { runc: {} } } } } })

  const start = async (name: string, runtimeHandler: string, command: string[]) => {
    const sandbox = await podConfig(world.site, name)
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox, runtimeHandler })
    const config = containerConfig('main', world.image, command)
    const containerId = await createContainer(world.cri, podSandboxId, sandbox, config)
    await world.cri.runtime.startContainer({ containerId })
    return { podSandboxId, containerId, logPath: `${sandbox.logDirectory}/${config.logPath}` }
  }
  const names = async () => (await world.cri.runtime.status({})).runtimeHandlers.map(({ name }) => name)
  const logged = (text: string) =>
    until(`the log says ${text}`, 5000, async () => ((await world.runtime.logTail()).includes(text) ? true : undefined))

  /** Writes other sections into the configuration file and tells the daemon. */
  const reconfigure = async (change: (config: Record<string, unknown>) => void) => {
    const path = world.site.path('config.yaml')
    const config: Record<string, unknown> = parse(await readFile(path, 'utf8'))
    change(config)
    await writeFile(path, stringify(config))
    process.kill(world.runtime.pid, 'SIGHUP')
  }

  it('refuses a pod of a handler that it does not have', async () => {
    const config = await podConfig(world.site, 'nobody')
    for (const runtimeHandler of ['crun', '../runc', '__proto__']) {
      await assert.rejects(
        world.cri.runtime.runPodSandbox({ config, runtimeHandler }),
        failsWith(status.INVALID_ARGUMENT, /there are "runc"/),
      )
    }
  })

  it('takes a new handler on SIGHUP, and runs pods with it', async () => {
    await reconfigure((config) => {
      config.runtimes = { handlers: { runc: {}, crun: { path: crun.path } } }
    })
    await logged('Reloaded the configuration')
    assert.deepEqual((await names()).toSorted(), ['', 'crun', 'runc'])
    const pod = await start('by-crun', 'crun', [
      'sh',
      '-c',
      "trap 'exit 4' TERM; echo up; while :; do sleep 0.05; done",
    ])
    const { status: sandbox } = await world.cri.runtime.podSandboxStatus({ podSandboxId: pod.podSandboxId })
    assert.equal(sandbox?.runtimeHandler, 'crun')
    await until('it is up', 5000, async () => ((await readLog(pod.logPath)).length > 0 ? true : undefined))
    const { stdout, exitCode } = await world.cri.runtime.execSync({
      containerId: pod.containerId,
      cmd: ['sh', '-c', 'hostname; exit 6'],
      timeout: 10n,
    })
    assert.deepEqual([stdout.toString(), exitCode], ['by-crun\n', 6])
    const { info } = await world.cri.runtime.containerStatus({ containerId: pod.containerId, verbose: true })
    assert.match(info.info ?? '', /"runtimeHandler":"crun"/)
    await world.cri.runtime.stopContainer({ containerId: pod.containerId, timeout: 10n })
    assert.equal((await containerStatus(world.cri, pod.containerId)).exitCode, 4)
    const wrong = await start('wrong', 'crun', ['/no/such/program']).catch((error) => error)
    assert.match(String(wrong), /no\/such\/program|No such file/)
    await removePod(world.cri, pod.podSandboxId)
  })

  it('streams commands by another runtime as by the first', async () => {
    const { containerId, podSandboxId } = await start('streamed', 'crun', ['sleep', '1000'])
    const exec = async (by: Transport, cmd: string[], wanted: { tty: boolean; stdin: boolean }) => {
      const asked = { ...wanted, stdout: true, stderr: !wanted.tty }
      const { url } = await world.cri.runtime.exec({ containerId, cmd, ...asked })
      return openCommand(by, url, asked)
    }
    for (const by of TRANSPORTS) {
      for (const tty of [false, true]) {
        const talk = await exec(by, ['sh', '-c', 'read line; echo "got $line"; test -t 0; exit $((3 + $?))'], {
          tty,
          stdin: true,
        })
        await talk.write(Buffer.from('word\n'))
        assert.deepEqual(await talk.ended, { code: tty ? 3 : 4 })
        assert.match(talk.text(), /got word\r?\n/)
        const missing = await exec(by, ['no-such-program'], { tty, stdin: false })
        assert.deepEqual(await missing.ended, { code: 127 })
        const killed = await exec(by, ['sh', '-c', 'kill -9 $$'], { tty, stdin: false })
        assert.deepEqual(await killed.ended, { code: 137 })
      }
    }
    await removePod(world.cri, podSandboxId)
  })

  it('keeps what it has when the configuration is broken, and says why', async () => {
    await writeFile(world.site.path('config.d-broken'), '')
    const path = world.site.path('config.yaml')
    const good = await readFile(path, 'utf8')
    await writeFile(path, `${good}\nnonsense: 1\n`)
    process.kill(world.runtime.pid, 'SIGHUP')
    await logged('the old one stays')
    assert.match(await world.runtime.logTail(), /nonsense/)
    assert.deepEqual((await names()).toSorted(), ['', 'crun', 'runc'])
    await writeFile(path, good)
  })

  it('goes on serving the pods of a handler that was dropped', async () => {
    const pod = await start('dropped', 'crun', ['sleep', '1000'])
    await reconfigure((config) => {
      config.runtimes = { handlers: { runc: {} } }
      config.logLevel = 'debug'
      config.cgroupDriver = 'systemd'
    })
    await until('it is gone', 5000, async () => ((await names()).includes('crun') ? undefined : true))
    await logged('need a restart')
    const { exitCode } = await world.cri.runtime.execSync({ containerId: pod.containerId, cmd: ['true'], timeout: 10n })
    assert.equal(exitCode, 0)
    await logged('debug')
    const config = await podConfig(world.site, 'late')
    await assert.rejects(
      world.cri.runtime.runPodSandbox({ config, runtimeHandler: 'crun' }),
      failsWith(status.INVALID_ARGUMENT, /"crun" is not configured/),
    )
    // The record tells by what the pod was made, so a new daemon serves it as well.
    await reconfigure((config) => {
      config.cgroupDriver = 'cgroupfs'
    })
    await world.runtime.kill()
    await world.runtime.start()
    const again = await world.cri.runtime.execSync({ containerId: pod.containerId, cmd: ['true'], timeout: 10n })
    assert.equal(again.exitCode, 0)
    await world.cri.runtime.stopContainer({ containerId: pod.containerId, timeout: 0n })
    const end = await untilExited(world.cri, pod.containerId)
    assert.equal(end.state, ContainerState.CONTAINER_EXITED)
    await removeAllPods(world.cri)
    await world.assertNothingLeft()
  })

  it('makes pods that name no handler with another default from now on, and serves the earlier ones', async () => {
    const programOf = async (podSandboxId: string): Promise<string> =>
      JSON.parse(await readFile(world.site.path('root/sandboxes', podSandboxId, 'config.json'), 'utf8')).record.runtime
        .handler
    const early = await start('early', '', ['sleep', '1000'])
    assert.equal(await programOf(early.podSandboxId), 'runc')
    await reconfigure((config) => {
      config.runtimes = { default: 'crun', handlers: { crun: { path: crun.path } } }
    })
    await until('runc is gone', 5000, async () => ((await names()).includes('runc') ? undefined : true))
    const late = await start('late', '', ['sleep', '1000'])
    assert.equal(await programOf(late.podSandboxId), 'crun')
    for (const round of ['before', 'after']) {
      for (const { containerId } of [early, late]) {
        const { exitCode } = await world.cri.runtime.execSync({ containerId, cmd: ['true'], timeout: 10n })
        assert.equal(exitCode, 0, `${round} the restart`)
      }
      if (round === 'before') await world.runtime.kill()
      if (round === 'before') await world.runtime.start()
    }
    const { status: shown } = await world.cri.runtime.podSandboxStatus({ podSandboxId: early.podSandboxId })
    assert.equal(shown?.runtimeHandler, '', 'as it was asked for')
    for (const { podSandboxId } of [early, late]) await removePod(world.cri, podSandboxId)
    await world.assertNothingLeft()
  })
})
