import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readdirSync, readlinkSync } from 'node:fs'
import { createServer, isIPv6, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { connectInNamespace } from './connect-in-namespace.ts'
import { isErrno } from './errno.ts'
import { createNamespaces, inNamespaces, unpinNamespace } from './namespaces.ts'
import { setLinkUp } from './netdev.ts'
import { sys } from './sys.ts'
import { scratch } from './testing/scratch.ts'

const skip = process.getuid?.() === 0 ? false : 'host lacks root'
const never = new AbortController().signal

const namespaceOf = (t: TestContext): string => {
  const net = join(scratch(t), 'net')
  createNamespaces({ kinds: ['net'], pins: { net }, inside: () => setLinkUp('lo') })
  t.after(() => unpinNamespace(net))
  return net
}

/** What bind(2) takes: any address of the family. */
const anyAddress = (family: number, port: number): Buffer => {
  const address = Buffer.alloc(family === 2 ? 16 : 28)
  address.writeUInt16LE(family, 0)
  address.writeUInt16BE(port, 2)
  return address
}

const listenIn = async (t: TestContext, net: string, at: string, port: number, serve: (socket: Socket) => void) => {
  const family = isIPv6(at) ? 10 : 2
  const fd = inNamespaces({ net }, () => sys('socket', family, 1 | 0o2004000, 0))
  sys('bind', fd, anyAddress(family, port), family === 2 ? 16 : 28)
  const server: Server = createServer({ allowHalfOpen: true }, serve)
  t.after(() => server.close())
  await new Promise<void>((resolve) => server.listen({ fd, backlog: 512 }, resolve))
}

/** Until the other side's end; unlike `text` of stream/consumers it leaves our own half open. */
const text = async (socket: Socket): Promise<string> => {
  let said = ''
  socket.on('data', (chunk: Buffer) => (said += chunk.toString()))
  await once(socket, 'end')
  return said
}

const sockets = () => readdirSync('/proc/self/fd').length

test('a connection is made from inside and the thread stays outside', { skip }, async (t) => {
  const net = namespaceOf(t)
  const home = readlinkSync('/proc/thread-self/ns/net')
  await listenIn(t, net, '127.0.0.1', 8080, (socket) => void text(socket).then((said) => socket.end(`heard ${said}`)))
  const socket = await connectInNamespace({ netns: net, address: '127.0.0.1', port: 8080 }, never)
  assert.equal(readlinkSync('/proc/thread-self/ns/net'), home)
  socket.end('hello')
  assert.equal(await text(socket), 'heard hello')
  await assert.rejects(connectInNamespace({ netns: undefined, address: '127.0.0.1', port: 8080 }, never), (error) =>
    isErrno(error, 'ECONNREFUSED'),
  )
})

test('by IPv6 as well', { skip }, async (t) => {
  const net = namespaceOf(t)
  await listenIn(t, net, '::1', 8081, (socket) => socket.end('six'))
  const socket = await connectInNamespace({ netns: net, address: '::1', port: 8081 }, never)
  assert.equal(await text(socket), 'six')
  socket.end()
})

test('the other side may close its half first', { skip }, async (t) => {
  const net = namespaceOf(t)
  const heard = Promise.withResolvers<string>()
  await listenIn(t, net, '127.0.0.1', 8082, (socket) => {
    socket.end('bye')
    void text(socket).then(heard.resolve)
  })
  const socket = await connectInNamespace({ netns: net, address: '127.0.0.1', port: 8082 }, never)
  assert.equal(await text(socket), 'bye')
  socket.end('still here')
  assert.equal(await heard.promise, 'still here')
})

test('what cannot be is an error with a code, and leaves no descriptor', { skip }, async (t) => {
  const net = namespaceOf(t)
  const before = sockets()
  const to = (address: string, port: number, netns = net) => connectInNamespace({ netns, address, port }, never)
  for (let round = 0; round < 20; round++) {
    await assert.rejects(to('127.0.0.1', 1), (error) => isErrno(error, 'ECONNREFUSED'))
    await assert.rejects(to('::1', 1), (error) => isErrno(error, 'ECONNREFUSED'))
    await assert.rejects(to('192.0.2.1', 1), (error) => isErrno(error, 'ENETUNREACH'))
    await assert.rejects(
      async () => to('127.0.0.1', 1, '/no/such/pin'),
      (error) => isErrno(error, 'ENOENT'),
    )
  }
  assert.ok(sockets() <= before)
})

test('a wait for a server that does not accept ends with its signal', { skip }, async (t) => {
  const net = namespaceOf(t)
  const fd = inNamespaces({ net }, () => sys('socket', 2, 1 | 0o2004000, 0))
  sys('bind', fd, anyAddress(2, 8083), 16)
  sys('listen', fd, 0)
  const controller = new AbortController()
  const attempts = Array.from({ length: 4 }, () =>
    connectInNamespace({ netns: net, address: '127.0.0.1', port: 8083 }, controller.signal),
  )
  setTimeout(() => controller.abort(new Error('enough')), 200)
  const outcomes = await Promise.allSettled(attempts)
  for (const outcome of outcomes) {
    if (outcome.status === 'fulfilled') outcome.value.destroy()
    else assert.match(String(outcome.reason), /enough/)
  }
  assert.ok(outcomes.some(({ status }) => status === 'rejected'))
  await assert.rejects(async () =>
    connectInNamespace({ netns: net, address: '127.0.0.1', port: 8083 }, controller.signal),
  )
})

test('a thousand connections, a hundred at once, each with its own answer', { skip }, async (t) => {
  const net = namespaceOf(t)
  await listenIn(t, net, '127.0.0.1', 8084, (socket) => void text(socket).then((said) => socket.end(said)))
  const before = sockets()
  let next = 0
  const worker = async () => {
    for (let mine = next++; mine < 1000; mine = next++) {
      const socket = await connectInNamespace({ netns: net, address: '127.0.0.1', port: 8084 }, never)
      socket.end(`number ${mine}`)
      assert.equal(await text(socket), `number ${mine}`)
    }
  }
  await Promise.all(Array.from({ length: 100 }, worker))
  await new Promise((resolve) => setTimeout(resolve, 200))
  assert.ok(sockets() <= before + 2)
})
