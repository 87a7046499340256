import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Admission, admit, type Refusal } from './admit.ts'

const TOKEN = '0123456789abcdef'.repeat(2)
const spdy = { connection: 'Upgrade', upgrade: 'SPDY/3.1', 'x-stream-protocol-version': 'v4.channel.k8s.io' }

const ask = (url: string, headers: Record<string, string> = spdy, method = 'POST'): Admission | Refusal =>
  admit({ method, url, headers })

const status = (answer: Admission | Refusal): number => ('status' in answer ? answer.status : 101)

test('exec, attach and port-forward have a path each; the query does not matter', () => {
  assert.deepEqual(ask(`/exec/${TOKEN}`), {
    kind: 'exec',
    token: TOKEN,
    transport: 'spdy',
    protocol: 'v4.channel.k8s.io',
  })
  assert.deepEqual(ask(`/attach/${TOKEN}?x=/../y`, spdy, 'GET'), {
    kind: 'attach',
    token: TOKEN,
    transport: 'spdy',
    protocol: 'v4.channel.k8s.io',
  })
  const forward = { ...spdy, 'x-stream-protocol-version': 'portforward.k8s.io' }
  assert.deepEqual(ask(`/portforward/${TOKEN}`, forward), {
    kind: 'port-forward',
    token: TOKEN,
    transport: 'spdy',
    protocol: 'portforward.k8s.io',
  })
})

test('any other path is answered as a wrong token is', () => {
  const paths = [
    '/',
    '',
    '*',
    '//exec/',
    '/exec',
    '/exec/',
    `/exec/${TOKEN}/`,
    `/exec/../exec/${TOKEN}`,
    `/exec%2f${TOKEN}`,
    `/Exec/${TOKEN}`,
  ]
  const more = [
    `/exec/${TOKEN.toUpperCase()}`,
    `/exec/${TOKEN}0`,
    `/exec/?token=${TOKEN}`,
    `/constructor/${TOKEN}`,
    `/__proto__/${TOKEN}`,
    `http://h/exec/${TOKEN}`,
    `/exec/${TOKEN}\n`,
  ]
  for (const path of [...paths, ...more]) assert.equal(status(ask(path)), 404, path)
})

test('methods, bodies, long URLs and requests that are no upgrades are refused by their own codes', () => {
  const url = `/exec/${TOKEN}`
  for (const method of ['PUT', 'DELETE', 'HEAD', 'OPTIONS', 'CONNECT'])
    assert.equal(status(ask(url, spdy, method)), 405)
  assert.equal(status(ask(`${url}?${'x'.repeat(2_048)}`)), 414)
  assert.equal(status(ask(url, { ...spdy, 'content-length': '0' })), 101)
  assert.equal(status(ask(url, { ...spdy, 'content-length': '5' })), 400)
  assert.equal(status(ask(url, { ...spdy, 'transfer-encoding': 'chunked' })), 400)
  assert.equal(status(ask(url, { ...spdy, 'transfer-encoding': 'chunked', 'content-length': '0' })), 400)
  assert.equal(status(ask(url, {})), 426)
  assert.equal(status(ask(url, { ...spdy, upgrade: 'h2c' })), 426)
  assert.equal(status(ask(url, { ...spdy, connection: 'keep-alive' })), 426)
  assert.equal(status(ask(url, { ...spdy, connection: 'keep-alive, UPGRADE', upgrade: 'spdy/3.1' })), 101)
})

test("the client's first known version is taken, from one list or from repeated headers", () => {
  const chosen = (versions: string) => {
    const answer = ask(`/exec/${TOKEN}`, { ...spdy, 'x-stream-protocol-version': versions })
    return 'protocol' in answer ? answer.protocol : answer.status
  }
  assert.equal(chosen('v5.channel.k8s.io, v4.channel.k8s.io'), 'v5.channel.k8s.io')
  assert.equal(chosen('v9.channel.k8s.io,channel.k8s.io'), 'channel.k8s.io')
  assert.equal(chosen('portforward.k8s.io'), 403)
  assert.equal(chosen(' , '), 400)
})

test('a WebSocket needs a known subprotocol, or none', () => {
  const chosen = (path: string, subprotocol?: string) => {
    const headers = {
      connection: 'upgrade',
      upgrade: 'websocket',
      ...(subprotocol && { 'sec-websocket-protocol': subprotocol }),
    }
    const answer = ask(`/${path}/${TOKEN}`, headers, 'GET')
    return 'protocol' in answer ? answer.protocol : answer.status
  }
  assert.equal(chosen('exec'), '')
  assert.equal(chosen('exec', 'v5.channel.k8s.io,v4.channel.k8s.io'), 'v5.channel.k8s.io')
  assert.equal(chosen('portforward', 'SPDY/3.1+portforward.k8s.io'), 'SPDY/3.1+portforward.k8s.io')
  assert.equal(chosen('exec', 'SPDY/3.1+portforward.k8s.io'), 400)
  assert.equal(chosen('portforward', 'v5.channel.k8s.io'), 400)
  assert.equal(chosen('exec', 'graphql-ws'), 400)
})
