/** Which addresses are connected to, whatever names mean at the moment: look-ups are ours here. */
import assert from 'node:assert/strict'
import dns from 'node:dns'
import { createServer } from 'node:http'
import { syncBuiltinESMExports } from 'node:module'
import type { AddressInfo } from 'node:net'
import { after, before, suite, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { quickTiming } from '../testing/test-images.ts'
import { HttpExchange } from './http-exchange.ts'

const { signal } = new AbortController()
const anywhere = (): boolean => true
const notHere = (address: string): boolean => address !== '127.0.0.1' && address !== '::1'

/** What each name leads to, one answer for each look-up, the last one for ever. Empty: there is no such name. */
const names = new Map<string, string[][]>()
const { lookup } = dns

/** As node:dns calls back when all addresses are asked for. */
const answer = (
  hostname: string,
  options: dns.LookupOptions,
  done: (error: NodeJS.ErrnoException | null, found: dns.LookupAddress[] | string, family?: number) => void,
): void => {
  const answers = names.get(hostname)
  // Servers look their own address up as well.
  if (answers === undefined) {
    lookup(hostname, options, done)
    return
  }
  const found = (answers.length > 1 ? answers.shift() : answers[0]) ?? []
  const error = found.length === 0 ? Object.assign(new Error('no such name'), { code: 'EAI_AGAIN' }) : null
  done(
    error,
    found.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
  )
}

class Server implements AsyncDisposable {
  seen = 0
  connections = 0
  readonly #server = createServer((_, response) => {
    this.seen++
    response.end('here')
  }).on('connection', () => this.connections++)

  async start(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve))
    return (this.#server.address() as AddressInfo).port
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close().closeAllConnections()
  }
}

const ask = async (exchange: HttpExchange, url: string, allows: (address: string) => boolean): Promise<string> => {
  const response = await exchange.send({ method: 'GET', url: new URL(url), headers: {}, signal, allows })
  let text = ''
  for await (const piece of response.body()) text += Buffer.from(piece).toString()
  // Back in the pool one tick later.
  await new Promise((resolve) => setImmediate(resolve))
  return text
}

const refused = (asking: Promise<string>): Promise<void> =>
  assert.rejects(asking, (error) => isKind(error, 'failed-precondition') || assert.fail(String(error)))

suite('an address that may not be reached', () => {
  before(() => {
    Object.assign(dns, { lookup: answer })
    syncBuiltinESMExports()
  })
  after(() => {
    Object.assign(dns, { lookup })
    syncBuiltinESMExports()
  })

  test('is not connected to by a name that leads there, nor by one that leads there a moment later', async () => {
    await using server = new Server()
    const port = await server.start()
    using exchange = disposable()
    names.set('inside.test', [['127.0.0.1'], ['::1']])
    names.set('turning.test', [['192.0.2.1'], ['127.0.0.1']])
    await refused(ask(exchange.it, `http://inside.test:${port}/`, notHere))
    await refused(ask(exchange.it, `http://inside.test:${port}/`, notHere))
    // Somebody looked the name up before and found it harmless: what counts is the look-up of the connection.
    await new Promise((resolve) => dns.lookup('turning.test', { all: true }, resolve))
    await refused(ask(exchange.it, `http://turning.test:${port}/`, notHere))
    assert.equal(server.connections, 0)
  })

  test('is not spoken to over a connection that somebody else was allowed to make', async () => {
    await using server = new Server()
    const port = await server.start()
    using exchange = disposable()
    names.set('registry.test', [['127.0.0.1']])
    const url = `http://registry.test:${port}/`
    assert.equal(await ask(exchange.it, url, anywhere), 'here')
    await refused(ask(exchange.it, url, notHere))
    assert.equal(server.seen, 1)
    assert.equal(await ask(exchange.it, url, anywhere), 'here')
  })

  test('is left out among others that a name has; of those the first that answers is taken', async () => {
    await using server = new Server()
    const port = await server.start()
    using exchange = disposable()
    names.set('both.test', [['::1', '127.0.0.1']])
    // Nobody listens at ::1, as where IPv6 leads nowhere.
    assert.equal(await ask(exchange.it, `http://both.test:${port}/`, anywhere), 'here')
    assert.equal(await ask(exchange.it, `http://both.test:${port}/`, (address) => address !== '::1'), 'here')
  })
})

const disposable = (): { it: HttpExchange; [Symbol.dispose](): void } => {
  const it = new HttpExchange(quickTiming, {})
  return { it, [Symbol.dispose]: () => it.close() }
}
