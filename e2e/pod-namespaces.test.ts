/** What a pod's containers share with each other, with the node, or with nobody; and what is set inside. */

import assert from 'node:assert/strict'
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'
import { describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import { type DeepPartial, NamespaceMode, type NamespaceOption, type PodSandboxConfig } from '#proto/generated/api.ts'
import { failsWith } from './cri-client.ts'
import { useWorld } from './harness.ts'
import { isPeer } from './peer.ts'
import { containerConfig, createContainer, podConfig, removeAllPods, startPod } from './pods.ts'

const { POD, NODE, CONTAINER, TARGET } = NamespaceMode
const IDLE = ['sleep', '1000']
const KINDS = ['net', 'ipc', 'uts', 'pid'] as const

describe('the namespaces of a pod', { skip: isPeer && 'ours' }, () => {
  const sandbox = { shmMiB: 16, sysctls: { 'net.core.somaxconn': '1234', 'kernel.shmmni': '77' } }
  const runtimes = { handlers: { runc: { allowedAnnotations: ['io.cricket.shm-size'] } } }
  const world = useWorld({ config: { sections: { sandbox, runtimes } } })

  const run = async (containerId: string, ...cmd: string[]): Promise<string> => {
    const { stdout, stderr, exitCode } = await world.cri.runtime.execSync({ containerId, cmd, timeout: 20n })
    assert.equal(exitCode, 0, stderr.toString())
    return stdout.toString().trim()
  }
  const linux = (namespaceOptions: DeepPartial<NamespaceOption>, sysctls: Record<string, string> = {}) => ({
    cgroupParent: world.site.cgroupParent,
    sysctls,
    securityContext: { namespaceOptions },
  })
  const aContainer = (name: string, namespaceOptions: DeepPartial<NamespaceOption>) =>
    containerConfig(name, world.image, IDLE, { linux: { securityContext: { namespaceOptions } } })
  const aPod = async (name: string, options: DeepPartial<NamespaceOption>, more: DeepPartial<PodSandboxConfig> = {}) =>
    startPod(
      world.cri,
      await podConfig(world.site, name, { linux: linux(options), ...more }),
      aContainer('main', options),
    )
  const another = async (
    pod: Awaited<ReturnType<typeof aPod>>,
    name: string,
    options: DeepPartial<NamespaceOption>,
  ) => {
    const containerId = await createContainer(world.cri, pod.sandboxId, pod.sandbox, aContainer(name, options))
    await world.cri.runtime.startContainer({ containerId })
    return containerId
  }
  /** Of the container's first process, as the node sees them. */
  const namespacesOf = async (containerId: string): Promise<Record<string, string>> => {
    const { info } = await world.cri.runtime.containerStatus({ containerId, verbose: true })
    const { pid } = JSON.parse(info.info ?? '{}')
    return Object.fromEntries(KINDS.map((kind) => [kind, readlinkSync(`/proc/${pid}/ns/${kind}`)]))
  }
  const ofTheNode = Object.fromEntries(KINDS.map((kind) => [kind, readlinkSync(`/proc/self/ns/${kind}`)]))
  const clean = async () => {
    await removeAllPods(world.cri)
    await world.assertNothingLeft()
  }

  it('are shared by its containers, but for the processes of each', async () => {
    const options = { network: POD, ipc: POD, pid: CONTAINER }
    const pod = await aPod('own', options)
    const [one, two] = [await namespacesOf(pod.containerId), await namespacesOf(await another(pod, 'two', options))]
    for (const kind of KINDS) {
      assert.notEqual(one[kind], ofTheNode[kind], `${kind} is not the node's`)
      if (kind === 'pid') assert.notEqual(one[kind], two[kind])
      else assert.equal(one[kind], two[kind], kind)
    }
    await clean()
  })

  it('are those of the node where it says so', async () => {
    const pod = await aPod('node', { network: NODE, ipc: NODE, pid: NODE })
    assert.deepEqual(await namespacesOf(pod.containerId), ofTheNode)
    assert.equal(await run(pod.containerId, 'hostname'), hostname())
    const ownNetwork = await aPod('half', { network: POD, ipc: NODE, pid: CONTAINER })
    const half = await namespacesOf(ownNetwork.containerId)
    assert.equal(half.ipc, ofTheNode.ipc)
    assert.notEqual(half.net, ofTheNode.net)
    await clean()
  })

  it('of a container that targets another are its processes, as of a debugger', async () => {
    const options = { network: POD, ipc: POD, pid: CONTAINER }
    const pod = await aPod('target', options)
    const debugging = { network: POD, ipc: POD, pid: TARGET, targetId: pod.containerId }
    const debuggerId = await another(pod, 'debugger', debugging)
    assert.deepEqual(await namespacesOf(debuggerId), await namespacesOf(pod.containerId))
    assert.equal((await run(debuggerId, 'pidof', 'sleep')).split(' ').length, 2, 'it sees the other')
    const elsewhere = await aPod('elsewhere', options)
    for (const [targetId, code] of [
      ['', status.INVALID_ARGUMENT],
      ['0'.repeat(64), status.NOT_FOUND],
      [elsewhere.containerId, status.NOT_FOUND],
    ] as const) {
      const config = aContainer('spy', { ...debugging, targetId })
      await assert.rejects(createContainer(world.cri, pod.sandboxId, pod.sandbox, config), failsWith(code, /target_id/))
    }
    await clean()
  })

  it('have the kernel parameters that pod and node ask for, and the node keeps its own', async () => {
    const names = ['kernel.shm_rmid_forced', 'kernel.msgmax', 'net.ipv4.ip_local_port_range']
    const files = [...names, 'net.core.somaxconn', 'kernel.shmmni', 'net.ipv4.ip_unprivileged_port_start']
    const pathOf = (name: string) => `/proc/sys/${name.replaceAll('.', '/')}`
    const ofNode = () => files.map((name) => readFileSync(pathOf(name), 'utf8'))
    const before = ofNode()
    const sysctls = {
      'kernel.shm_rmid_forced': '1',
      'kernel.msgmax': '4321',
      'net/ipv4/ip_local_port_range': '2000 3000',
    }
    const options = { network: POD, ipc: POD, pid: CONTAINER }
    const pod = await aPod('sysctls', options, { linux: linux(options, sysctls) })
    const inside = (await run(pod.containerId, 'cat', ...files.map(pathOf))).split('\n').map((line) => line.trim())
    assert.deepEqual(inside, ['1', '4321', '2000\t3000', '1234', '77', '0'])
    assert.deepEqual(ofNode(), before)
    await clean()
  })

  it('have a /dev/shm of the size that the node or an allowed annotation says, for all its containers', async () => {
    const options = { network: NODE, ipc: POD, pid: CONTAINER }
    const kibOf = async (id: string) =>
      Number(/\s(\d+)\s/.exec((await run(id, 'df', '-k', '/dev/shm')).split('\n')[1] ?? '')?.[1])
    const pod = await aPod('shm', options)
    assert.equal(await kibOf(pod.containerId), 16 * 1024)
    const second = await another(pod, 'second', options)
    await run(pod.containerId, 'sh', '-c', 'echo shared > /dev/shm/file')
    assert.equal(await run(second, 'cat', '/dev/shm/file'), 'shared')
    const larger = await aPod('larger', options, {
      linux: linux(options),
      annotations: { 'io.cricket.shm-size': '32Mi' },
    })
    assert.equal(await kibOf(larger.containerId), 32 * 1024)
    const wrong = await podConfig(world.site, 'wrong', { annotations: { 'io.cricket.shm-size': 'lots' } })
    await assert.rejects(world.cri.runtime.runPodSandbox({ config: wrong }), failsWith(status.INVALID_ARGUMENT, /lots/))
    await clean()
  })
})
