import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { type AddressInfo, createServer as createNetServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { quickTiming } from '../testing/test-images.ts'
import { PLAIN_CONNECTION } from './connections.ts'
import { HttpExchange } from './http-exchange.ts'
import { sortFailure } from './registry-error.ts'
import { send } from './transport.ts'

const listening = async (server: Server): Promise<string> => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

const anywhere = () => true
const { signal } = new AbortController()

suite('HTTP exchange', () => {
  test('uses the proxy of the environment, but not for loopback and NO_PROXY', async () => {
    const seen: string[] = []
    const server = createServer(({ url = '' }, response) => {
      seen.push(url)
      response.end()
    })
    const host = await listening(server)
    const exchange = new HttpExchange(quickTiming, { http: `http://${host}`, no: 'direct.invalid' })
    try {
      const ask = (url: string) =>
        exchange.send({ method: 'GET', url: new URL(url), headers: {}, signal, allows: anywhere })
      const proxied = await ask('http://registry.invalid/v2/')
      assert.equal(proxied.address, undefined)
      proxied.discard()
      const direct = await ask(`http://${host}/direct`)
      assert.equal(direct.address, '127.0.0.1')
      direct.discard()
      await assert.rejects(ask('http://direct.invalid/'), { code: 'ENOTFOUND' })
      assert.deepEqual(seen, ['http://registry.invalid/v2/', '/direct'])
    } finally {
      exchange.close()
      server.close()
    }
  })

  test('shows what proves us to the proxy to nobody else', async () => {
    const seen: { who: string; proof: unknown }[] = []
    const listen = async (who: string) => {
      const server = createServer(({ headers }, response) => {
        seen.push({ who, proof: headers['proxy-authorization'] })
        response.end()
      })
      return { server, host: await listening(server) }
    }
    const [proxy, other] = [await listen('proxy'), await listen('other')]
    const exchange = new HttpExchange(quickTiming, { http: `http://user:pass@${proxy.host}` })
    try {
      for (const url of ['http://registry.invalid/v2/', `http://${other.host}/`]) {
        ;(await exchange.send({ method: 'GET', url: new URL(url), headers: {}, signal, allows: anywhere })).discard()
      }
      assert.deepEqual(seen, [
        { who: 'proxy', proof: `Basic ${Buffer.from('user:pass').toString('base64')}` },
        { who: 'other', proof: undefined },
      ])
    } finally {
      exchange.close()
      proxy.server.close()
      other.server.close()
    }
  })

  test('counts the time in which it waits for bytes, not that in which they wait for us', async () => {
    const pieces = Array.from({ length: 8 }, () => Buffer.alloc(64 * 1024, 'x'))
    const server = createServer(async (_, response) => {
      for (const piece of pieces) response.write(piece)
      response.end()
    })
    const url = new URL(`http://${await listening(server)}/`)
    const idleMs = 1_000
    const exchange = new HttpExchange({ ...quickTiming, idleMs, leastBytes: 2 ** 20 }, {})
    try {
      const response = await exchange.send({ method: 'GET', url, headers: {}, signal, allows: anywhere })
      let received = 0
      for await (const piece of response.body()) {
        received += piece.length
        // What hashing, unpacking, a slow disk, or another pull of the same blob can take.
        if (received === piece.length) await new Promise((resolve) => setTimeout(resolve, 1.5 * idleMs))
      }
      assert.equal(received, 8 * 64 * 1024)
    } finally {
      exchange.close()
      server.close()
    }
  })

  test('gives a server up that takes longer to be connected to than its own limit', { timeout: 30_000 }, async () => {
    // Accepts, and then says nothing to who wants to speak TLS.
    const server = createNetServer()
    const url = new URL(`https://${await listening(server)}/`)
    const exchange = new HttpExchange({ ...quickTiming, connectMs: 60_000 }, {})
    const connection = { ...PLAIN_CONNECTION, key: 'dial', dialTimeoutMs: 50 }
    try {
      const sent = exchange.send({ method: 'GET', url, headers: {}, signal, allows: anywhere, connection })
      await assert.rejects(sent, { code: 'ETIMEDOUT' })
    } finally {
      exchange.close()
      server.close()
    }
  })

  test('asks before it connects, by address and by name', async () => {
    const asked: string[] = []
    const exchange = new HttpExchange(quickTiming, {})
    const refuse = (address: string): boolean => {
      asked.push(address)
      return false
    }
    for (const url of ['http://127.0.0.1:1/', 'http://[::1]:1/', 'http://localhost:1/']) {
      const sent = exchange.send({ method: 'GET', url: new URL(url), headers: {}, signal, allows: refuse })
      await assert.rejects(sent, (error) => isKind(error, 'failed-precondition'))
    }
    assert.ok(asked.includes('127.0.0.1') && asked.includes('::1'))
    exchange.close()
  })

  test('uses a connection again', async () => {
    let connections = 0
    const server = createServer((_, response) => response.end('body')).on('connection', () => connections++)
    const url = new URL(`http://${await listening(server)}/`)
    const exchange = new HttpExchange(quickTiming, {})
    try {
      for (let count = 0; count < 5; count++) {
        const response = await exchange.send({ method: 'GET', url, headers: {}, signal, allows: anywhere })
        for await (const _ of response.body());
        // Back in the pool one tick later.
        await new Promise((resolve) => setImmediate(resolve))
      }
      assert.equal(connections, 1)
    } finally {
      exchange.close()
      server.close()
    }
  })

  test('refuses a certificate that nobody vouches for, and a redirect from HTTPS to HTTP', async (t) => {
    if (!existsSync('/usr/bin/openssl')) return t.skip('host lacks openssl')
    const directory = await mkdtemp(join(tmpdir(), 'cricket-tls-'))
    const file = (name: string): string => join(directory, name)
    const request = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1']
    const name = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1']
    execFileSync('/usr/bin/openssl', [...request, ...name, '-keyout', file('key'), '-out', file('cert')], {
      stdio: 'ignore',
    })
    const [key, cert] = [await readFile(file('key')), await readFile(file('cert'))]
    const server = createTlsServer({ key, cert }, (_, response) => {
      response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end()
    })
    const host = await listening(server)
    const exchange = new HttpExchange(quickTiming, {})
    try {
      const sent = exchange.send({
        method: 'GET',
        url: new URL(`https://${host}/`),
        headers: {},
        signal,
        allows: anywhere,
      })
      const error: unknown = await sent.catch((reason) => sortFailure(reason, 'it'))
      assert.ok(isKind(error, 'registry-unavailable'), String(error))
      // With the certificate known the redirect shows; the exchange itself has no switch for that.
      const trusting = {
        send: async () => ({
          status: 302,
          headers: { location: 'http://127.0.0.1:1/' },
          address: '127.0.0.1',
          body: async function* () {},
          discard: () => {},
        }),
      }
      const redirected = send(trusting, { method: 'GET', url: new URL(`https://${host}/`), signal })
      await assert.rejects(redirected, (reason) => isKind(reason, 'failed-precondition'))
    } finally {
      exchange.close()
      server.close()
      await rm(directory, { recursive: true })
    }
  })
})
