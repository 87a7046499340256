/** PortForward as clients see it: many connections into a pod, each with an end of its own. */

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { status } from '@grpc/grpc-js'
import { NamespaceMode } from '#proto/generated/api.ts'
import { failsWith } from './cri-client.ts'
import { useWorld } from './harness.ts'
import { isPeer } from './peer.ts'
import { containerConfig, podConfig, type RunningPod, startPod, until } from './pods.ts'
import { SpdyClient, type SpdyStream } from './spdy-client.ts'

/** Servers that bear a hundred connections at once, which busybox's do not; started inside the pod's network. */
const SERVERS = `
const { createServer } = require('node:net')
const { createHash } = require('node:crypto')
const serve = (port, host, work) =>
  createServer({ allowHalfOpen: true }, (socket) => work(socket.on('error', () => {}))).listen({ port, host, backlog: 512 })
serve(7001, '127.0.0.1', (socket) => socket.pipe(socket))
serve(7006, '::1', (socket) => socket.pipe(socket))
serve(7002, '127.0.0.1', (socket) => {
  const hash = createHash('sha256')
  socket.on('data', (bytes) => hash.update(bytes)).on('end', () => socket.end(hash.digest('hex')))
})
setTimeout(() => console.log('up'), 100)`

describe('PortForward', { skip: isPeer && 'ours' }, () => {
  const world = useWorld()

  const start = async (name: string, script = 'sleep 1000', pod = {}, container = {}): Promise<RunningPod> =>
    startPod(
      world.cri,
      await podConfig(world.site, name, pod),
      containerConfig('main', world.image, ['sh', '-c', script], container),
    )
  const forward = async (podSandboxId: string): Promise<SpdyClient> => {
    const { url } = await world.cri.runtime.portForward({ podSandboxId })
    return SpdyClient.connect(url, 'portforward.k8s.io')
  }
  let requests = 0
  function connect(client: SpdyClient, port: number): { data: SpdyStream; error: SpdyStream } {
    const headers = { port: String(port), requestid: String(requests++) }
    const error = client.open({ streamtype: 'error', ...headers })
    const data = client.open({ streamtype: 'data', ...headers })
    // As kubectl does, who has nothing to say on it.
    error.end()
    return { error, data }
  }
  const wholeOf = async (stream: SpdyStream): Promise<Buffer> => {
    const chunks: Buffer[] = []
    stream.on('data', (chunk: Buffer) => chunks.push(chunk))
    await Promise.race([once(stream, 'end'), once(stream, 'close')])
    return Buffer.concat(chunks)
  }
  const serveIn = async (t: TestContext, { sandboxId }: RunningPod): Promise<void> => {
    const net = join(world.site.path('state'), 'sandboxes', sandboxId, 'ns/net')
    const server = spawn('nsenter', [`--net=${net}`, process.execPath, '-e', SERVERS], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.after(() => server.kill('SIGKILL'))
    await once(server.stdout, 'data')
  }

  it('serves a thousand connections, a hundred at once, and gives all of them back', async (t) => {
    const pod = await start('thousand')
    const client = await forward(pod.sandboxId)
    await serveIn(t, pod)
    const descriptors = () => readdirSync(`/proc/${world.runtime.pid}/fd`).length
    const before = descriptors()
    const begin = performance.now()
    let next = 0
    const worker = async () => {
      for (let mine = next++; mine < 1000; mine = next++) {
        const { data, error } = connect(client, 7001)
        data.end(`connection ${mine}`)
        const [said, complaint] = await Promise.all([wholeOf(data), wholeOf(error)])
        assert.equal(complaint.toString(), '')
        assert.equal(said.toString(), `connection ${mine}`)
      }
    }
    await Promise.all(Array.from({ length: 100 }, worker))
    t.diagnostic(`a thousand connections in ${(performance.now() - begin).toFixed(0)} ms`)
    await until('the descriptors are back', 20_000, async () => (descriptors() <= before + 1 ? true : undefined))
    client.socket.destroy()
  })

  it('half-closes both ways, by IPv6 where nothing listens on IPv4', async (t) => {
    const pod = await start('half')
    const client = await forward(pod.sandboxId)
    await serveIn(t, pod)
    const bytes = Buffer.alloc(20_000_000, 'to be summed up\n')
    const { data } = connect(client, 7002)
    for (let at = 0; at < bytes.length; at += 32_768) {
      if (!data.write(bytes.subarray(at, at + 32_768))) await once(data, 'drain')
    }
    data.end()
    assert.match((await wholeOf(data)).toString(), new RegExp(createHash('sha256').update(bytes).digest('hex')))
    const six = connect(client, 7006)
    six.data.end('by the sixth')
    assert.equal((await wholeOf(six.data)).toString(), 'by the sixth')
    client.socket.destroy()
  })

  it('tells of a port that nobody has on its own stream, and the others go on', async (t) => {
    const pod = await start('refused')
    const client = await forward(pod.sandboxId)
    await serveIn(t, pod)
    const open = connect(client, 7001)
    const { error } = connect(client, 1)
    assert.match((await wholeOf(error)).toString(), /port 1 .*127\.0\.0\.1: ECONNREFUSED, ::1: ECONNREFUSED/)
    open.data.end('still here')
    assert.equal((await wholeOf(open.data)).toString(), 'still here')
    client.socket.destroy()
  })

  it('reaches the node in pods of its network, and ends with the pod', async (t) => {
    const server = createServer((socket) => socket.on('error', () => {}).pipe(socket))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.after(() => server.close())
    const address = server.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    const namespaceOptions = { network: NamespaceMode.NODE, pid: NamespaceMode.CONTAINER, ipc: NamespaceMode.POD }
    const linux = { cgroupParent: world.site.cgroupParent, securityContext: { namespaceOptions } }
    const pod = await start('host', 'sleep 1000', { linux }, { linux: { securityContext: { namespaceOptions } } })
    const client = await forward(pod.sandboxId)
    const { data } = connect(client, port)
    data.write('hello')
    const [said] = await once(data, 'data')
    assert.equal(String(said), 'hello')
    const over = Promise.race([once(data, 'end'), once(data, 'close')])
    await world.cri.runtime.stopPodSandbox({ podSandboxId: pod.sandboxId })
    await over
    const { error } = connect(client, port)
    assert.match((await wholeOf(error)).toString(), /not ready/)
    client.socket.destroy()
  })

  it('refuses what makes no sense', async () => {
    const pod = await start('nonsense', 'sleep 1000')
    const podSandboxId = pod.sandboxId
    const refused = (request: object, code: status, message: RegExp) =>
      assert.rejects(world.cri.runtime.portForward({ podSandboxId, ...request }), failsWith(code, message))
    await refused({ port: [80, 0] }, status.INVALID_ARGUMENT, /port\[1\] is 0/)
    await refused({ port: [65_536] }, status.INVALID_ARGUMENT, /port\[0\] is 65536/)
    await refused({ podSandboxId: '0'.repeat(64) }, status.NOT_FOUND, /0000/)
    await world.cri.runtime.stopPodSandbox({ podSandboxId })
    await refused({}, status.FAILED_PRECONDITION, /not ready/)
  })
})
