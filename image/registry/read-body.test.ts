/** Bodies that are read into memory which is used again: nothing is lost or overwritten, and nothing is left to be collected. */
import assert from 'node:assert/strict'
import { createHash, randomBytes, randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { suite, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { Authority, hasOpenssl } from '../testing/certificates.ts'
import { quickTiming } from '../testing/test-images.ts'
import type { Connection } from './connections.ts'
import { HttpExchange } from './http-exchange.ts'

const { signal } = new AbortController()
const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
const NOISE = randomBytes(9_000_000)

/** As much of the noise as the path says, by a length or in chunks, in writes of any size. */
const serveNoise: RequestListener = async ({ url = '' }, response) => {
  const [, framing, length] = url.split('/')
  const body = NOISE.subarray(0, Number(length))
  if (framing === 'length') response.setHeader('content-length', body.length)
  response.flushHeaders()
  for (let at = 0; at < body.length; ) {
    const piece = body.subarray(at, at + randomInt(1, 400_000))
    if (!response.write(piece)) await once(response, 'drain')
    at += piece.length
  }
  response.end()
}

class Rig implements AsyncDisposable {
  readonly #server: Server
  readonly #connection: Connection | undefined
  readonly #exchange = new HttpExchange(quickTiming, {})
  sockets = 0

  private constructor(server: Server, connection: Connection | undefined) {
    this.#server = server
    this.#connection = connection
    server.on(connection === undefined ? 'connection' : 'secureConnection', () => this.sockets++)
  }

  static async start(listener: RequestListener, authority?: Authority): Promise<Rig> {
    const pair = await authority?.issue('server')
    const server = pair ? createTlsServer(pair, listener) : createServer(listener)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const trust = authority && { key: 'test', ca: [authority.cert], clients: [], skipVerify: false }
    return new Rig(server, trust)
  }

  async body(path: string): Promise<AsyncIterable<Uint8Array>> {
    const { port } = this.#server.address() as AddressInfo
    const url = new URL(path, `${this.#connection ? 'https' : 'http'}://127.0.0.1:${port}`)
    const connection = this.#connection && { connection: this.#connection }
    const request = { method: 'GET', url, headers: {}, signal, allows: () => true, ...connection } as const
    return (await this.#exchange.send(request)).body()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#exchange.close()
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}

/** Reads all, sometimes slowly, and holds each piece as long as it may. */
const digestOfAll = async (body: AsyncIterable<Uint8Array>): Promise<string> => {
  const hash = createHash('sha256')
  for await (const piece of body) {
    const before = digest(piece)
    for (let turns = randomInt(4); turns > 0; turns--) await turn()
    assert.equal(digest(piece), before, 'the piece changed while it was being read')
    hash.update(piece)
  }
  return hash.digest('hex')
}

suite('bodies read in place', () => {
  for (const scheme of ['http', 'https']) {
    test(`arrive whole over ${scheme}, one after the other on one connection and several at once`, async (t) => {
      if (scheme === 'https' && !hasOpenssl()) return t.skip('host lacks openssl')
      await using authority = scheme === 'https' ? await Authority.make() : undefined
      await using rig = await Rig.start(serveNoise, authority)
      const fetch = async (framing: string, length: number): Promise<void> => {
        const actual = await digestOfAll(await rig.body(`/${framing}/${length}`))
        assert.equal(actual, digest(NOISE.subarray(0, length)), `${framing} ${length}`)
      }
      for (const framing of ['length', 'chunked'])
        for (const length of [0, 1, 4000, 300_000, NOISE.length]) await fetch(framing, length)
      assert.equal(rig.sockets, 1)
      await Promise.all([1, 2, 3].map((each) => fetch('length', each * 2_500_000)))
    })
  }

  test('leave nothing for the collector', async () => {
    const chunk = Buffer.alloc(64 * 1024)
    await using rig = await Rig.start(async (_, response) => {
      for (let count = 0; count < 1600; count++) if (!response.write(chunk)) await once(response, 'drain')
      response.end()
    })
    const before = process.memoryUsage().arrayBuffers
    let [most, bytes] = [0, 0]
    for await (const piece of await rig.body('/')) {
      bytes += piece.length
      most = Math.max(most, process.memoryUsage().arrayBuffers - before)
    }
    assert.equal(bytes, 1600 * chunk.length)
    assert.ok(most < 4_000_000, `${most} bytes of buffers at once`)
  })
})
