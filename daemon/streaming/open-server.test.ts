import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { isKind } from '#proto/errors.ts'
import { silentLog } from '#proto/log.ts'
import { openStreamingServer } from './open-server.ts'
import { makeSelfSigned } from './self-signed.ts'
import { FakeBackend } from './testing/fake-backend.ts'
import { ask, dialSpdy, upgradeLines } from './testing/spdy-client.ts'
import { liveBytes, openStage, until } from './testing/stage.ts'
import { dialWebSocket } from './testing/websocket-client.ts'

const lines = upgradeLines('v4.channel.k8s.io')
const noInput = { stdin: false, stderr: false }

/** The status of an answer, whose socket is closed by the server. */
const statusOf = async (...args: Parameters<typeof ask>): Promise<number> => {
  const { socket, status } = await ask(...args)
  socket.resume()
  if (status !== 101 && !socket.destroyed) await once(socket, 'close')
  socket.destroy()
  return status
}

test('a URL is of loopback, and good for one session of its kind', async (t) => {
  const stage = await openStage(t)
  const url = stage.exec(['exit'], noInput)
  assert.match(url, /^http:\/\/127\.0\.0\.1:\d+\/exec\/[0-9a-f]{32}$/)
  assert.equal(await statusOf(url, lines), 101)
  assert.equal(await statusOf(url, lines), 404)
  const other = stage.exec(['exit'], noInput)
  assert.equal(await statusOf(other.replace('/exec/', '/attach/'), lines), 404)
  assert.equal(await statusOf(other, lines), 404)
  const wrong = stage.exec(['exit']).replace(/.$/, (last) => (last === '0' ? '1' : '0'))
  assert.equal(await statusOf(wrong, lines), 404)
})

test('a URL that is too old is gone, and so is a token anywhere but in the path', async (t) => {
  let now = 0
  const stage = await openStage(t, { now: () => now })
  const [old, fresh] = [stage.exec(['exit'], noInput), stage.exec(['exit'], noInput)]
  const token = fresh.slice(-32)
  assert.equal(await statusOf(fresh, [...lines, `X-Token: ${token}`], { path: `/exec/?token=${token}` }), 404)
  assert.equal(await statusOf(fresh, lines, { path: `/exec/..%2f${token}` }), 404)
  assert.equal(await statusOf(fresh, lines, { path: `/x/../exec/${token}` }), 404)
  now = 61_000
  assert.equal(await statusOf(old, lines), 404)
})

test('the table of tokens is bounded', async (t) => {
  const stage = await openStage(t)
  for (let each = 0; each < 1_000; each++) stage.exec(['exit'])
  assert.throws(
    () => stage.exec(['exit']),
    (error) => isKind(error, 'resource-exhausted'),
  )
})

test('what is no upgrade gets an explanation, spends nothing, and never a header that lets a browser read it', async (t) => {
  const stage = await openStage(t)
  const url = stage.exec(['exit'], noInput)
  const answer = await ask(url, ['Origin: http://evil.example'], { method: 'GET' })
  assert.equal(answer.status, 426)
  assert.match(answer.rest.toString(), /^This URL is for streaming/)
  for (const name of answer.headers.keys()) assert.doesNotMatch(name, /^access-control|^server|^x-powered/)
  answer.socket.destroy()
  assert.equal(await statusOf(url, [], { method: 'DELETE' }), 405)
  assert.equal(await statusOf(url, ['Upgrade: h2c', 'Connection: Upgrade'], { method: 'GET' }), 426)
  assert.equal(await statusOf(url, lines, { method: 'GET' }), 101)
})

test('no token is ever logged', async (t) => {
  const stage = await openStage(t)
  const urls = [stage.exec(['exit'], noInput), stage.exec(['fail'], noInput), stage.exec(['exit'])]
  const [good = '', failing = '', refused = ''] = urls
  for (const url of [good, failing]) await (await (await stage.spdy(url)).openAll('error', 'stdout')).error.over
  await statusOf(good, lines)
  await statusOf(refused, upgradeLines('nonsense'))
  await until('both are logged', () => stage.lines.filter((line) => line.includes('ended')).length === 2)
  for (const url of urls) assert.ok(!stage.lines.join('\n').includes(url.slice(-32)))
})

test('a refused upgrade leaves no tunnel: what follows it is not another request', async (t) => {
  const stage = await openStage(t)
  const url = stage.exec(['exit'], noInput)
  const behind = Buffer.from(`POST ${new URL(url).pathname} HTTP/1.1\r\nHost: x\r\n${lines.join('\r\n')}\r\n\r\n`)
  for (const first of [lines, ['Connection: keep-alive']]) {
    const { socket, status, rest } = await ask(url, first, { behind, path: '/exec/nonsense' })
    assert.notEqual(status, 101)
    let all = rest
    socket.on('data', (chunk: Buffer) => {
      all = Buffer.concat([all, chunk])
    })
    socket.resume()
    await once(socket, 'close')
    assert.ok(!all.includes('HTTP/1.1'))
  }
  assert.equal(stage.backend.execs.length, 0)
  assert.equal(await statusOf(url, lines), 101)
})

test('a body before the upgrade is refused, however it is announced', async (t) => {
  const stage = await openStage(t)
  const url = stage.exec(['exit'], noInput)
  const plain = lines.filter((line) => !line.startsWith('Content-Length'))
  const bodies = [
    ['Content-Length: 5'],
    ['Transfer-Encoding: chunked'],
    ['Transfer-Encoding: chunked', 'Content-Length: 5'],
  ]
  for (const announced of bodies)
    assert.equal(await statusOf(url, [...plain, ...announced], { behind: Buffer.from('0\r\n\r\n') }), 400)
  assert.equal(stage.backend.execs.length, 0)
})

test('headers beyond 64 KiB are refused; HTTP/2 is not spoken', async (t) => {
  const stage = await openStage(t)
  assert.equal(await statusOf(stage.exec(['exit']), [...lines, `X-Big: ${'x'.repeat(70_000)}`]), 431)
  const { hostname, port } = new URL(stage.exec(['exit']))
  const socket = connect(Number(port), hostname)
  t.after(() => socket.destroy())
  socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
  const [answer] = await once(socket, 'data')
  assert.match(String(answer), /^HTTP\/1\.1 400/)
})

test('a client that sends half a request is not waited for', { timeout: 60_000 }, async (t) => {
  const stage = await openStage(t)
  const { hostname, port } = new URL(stage.exec(['exit']))
  const socket = connect(Number(port), hostname)
  socket.write('POST /exec/')
  socket.on('error', () => {}).resume()
  await once(socket, 'close')
})

test('connections beyond the limit are closed at once, and the limit can change', async (t) => {
  const stage = await openStage(t, { config: { maxConnections: 2 } })
  const [one, two] = [await stage.spdy(stage.attach()), await stage.spdy(stage.attach())]
  await assert.rejects(ask(stage.attach(), lines))
  one.close()
  two.close()
  await Promise.all([one.closed, two.closed])
  stage.server.reload({ ...stage.config, maxConnections: 3 })
  for (let each = 0; each < 3; each++) await stage.spdy(stage.attach())
  await assert.rejects(ask(stage.attach(), lines))
})

test('a client may send its first frames right behind the request', async (t) => {
  const stage = await openStage(t)
  const { socket, status } = await ask(stage.exec(['exit']), lines, { behind: Buffer.from('80020001ffffffff', 'hex') })
  assert.equal(status, 101)
  socket.resume()
  // Another version of SPDY: read, and thrown out for.
  await once(socket, 'close')
})

test('IPv6 loopback works; an address that is taken is an error of its own kind', async (t) => {
  const stage = await openStage(t, { config: { address: '::1' } })
  const url = stage.exec(['exit'], noInput)
  assert.match(url, /^http:\/\/\[::1\]:/)
  assert.equal(await statusOf(url, lines), 101)
  const other = createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  t.after(() => other.close())
  const address = other.address()
  const port = typeof address === 'object' && address ? address.port : 0
  const config = { ...stage.config, address: '127.0.0.1', port }
  await assert.rejects(openStreamingServer({ config, backend: new FakeBackend(), log: silentLog }), {
    kind: 'failed-precondition',
  })
})

test('closing lets sessions end within the grace, aborts the others with a reason, and nothing new begins', async (t) => {
  const stage = await openStage(t)
  const quick = await stage.spdy(stage.attach({ stderr: false }))
  const quickStreams = await quick.openAll('error', 'stdin', 'stdout')
  const stuck = await stage.spdy(stage.exec(['stall'], { stderr: false }))
  const stuckStreams = await stuck.openAll('error', 'stdin', 'stdout')
  await until('both run', () => stage.backend.running === 2)
  const waiting = stage.exec(['exit'], noInput)
  const closing = stage.server.close(1_000)
  quickStreams.stdin.end('last words')
  assert.equal(await quickStreams.stdout.whole(), 'last words')
  const status = JSON.parse(await stuckStreams.error.whole())
  assert.deepEqual([status.reason, status.message], ['ServiceUnavailable', 'The container runtime is stopping'])
  await closing
  await assert.rejects(ask(waiting, lines))
  await Promise.all([quick.closed, stuck.closed])
})

test('50 clients that read nothing of a flood cost little each, and end with the server', async (t) => {
  const stage = await openStage(t)
  const before = liveBytes()
  for (let each = 0; each < 25; each++) {
    const spdy = await stage.spdy(stage.exec(['flood'], noInput))
    await spdy.openAll('error', 'stdout')
    spdy.socket.pause()
    const web = await dialWebSocket(stage.exec(['flood'], noInput), { subprotocols: ['v5.channel.k8s.io'] })
    web.socket.pause()
    t.after(() => web.socket.terminate())
  }
  await until('all run', () => stage.backend.running === 50)
  // The kernel's buffers fill; from then on nothing moves.
  for (let last = -1, now = liveBytes(); Math.abs(now - last) > 1_000_000; last = now, now = liveBytes())
    await new Promise((resolve) => setTimeout(resolve, 1_000))
  const each = (liveBytes() - before) / 50
  t.diagnostic(`${Math.round(each / 1_024)} KiB for each stalled client`)
  assert.ok(each < 1_048_576)
})

const place = (t: TestContext): string => {
  const dir = mkdtempSync(join(tmpdir(), 'cricket-tls-'))
  t.after(() => rmSync(dir, { recursive: true }))
  return dir
}

const writeTls = (dir: string, names = ['127.0.0.1']) => {
  const { cert, key } = makeSelfSigned(names)
  const files = { certFile: join(dir, 'cert.pem'), keyFile: join(dir, 'key.pem') }
  writeFileSync(files.certFile, cert)
  writeFileSync(files.keyFile, key)
  return { ...files, cert, key }
}

test('TLS with a certificate of its own making: exec by both transports, for the address it listens on', async (t) => {
  const stage = await openStage(t, { tls: { enabled: true } })
  const url = stage.exec(['echo', 'secret'], noInput)
  assert.match(url, /^https:/)
  const client = await dialSpdy(url)
  t.after(() => client.close())
  const { stdout } = await client.openAll('error', 'stdout')
  assert.equal(await stdout.whole(), 'secret')
  const web = await dialWebSocket(stage.exec(['echo', 'x'], noInput), {
    subprotocols: ['v5.channel.k8s.io'],
    rejectUnauthorized: false,
  })
  assert.equal(await web.closed, 1000)
  const { host, port } = { host: '127.0.0.1', port: Number(new URL(url).port) }
  const peer = connectTls({ host, port, rejectUnauthorized: false })
  await once(peer, 'secureConnect')
  assert.match(String(peer.getPeerX509Certificate()?.subjectAltName), /IP Address:127\.0\.0\.1/)
  peer.destroy()
})

test('certificate files are taken anew; a broken file changes nothing', async (t) => {
  const dir = place(t)
  const files = writeTls(dir, ['first.example'])
  const stage = await openStage(t, { tls: { enabled: true, certFile: files.certFile, keyFile: files.keyFile } })
  const host = async () => {
    const { port } = new URL(stage.exec(['exit']))
    const peer = connectTls({ host: '127.0.0.1', port: Number(port), rejectUnauthorized: false })
    await once(peer, 'secureConnect')
    const names = String(peer.getPeerX509Certificate()?.subjectAltName)
    peer.destroy()
    return names
  }
  assert.equal(await host(), 'DNS:first.example')
  writeTls(dir, ['second.example'])
  stage.server.reload(stage.config)
  assert.equal(await host(), 'DNS:second.example')
  writeFileSync(files.certFile, 'nonsense')
  stage.server.reload(stage.config)
  assert.equal(await host(), 'DNS:second.example')
  assert.ok(stage.lines.some((line) => line.includes('the old one stays') && line.includes(files.certFile)))
})

test('TLS before 1.2 is never spoken, 1.2 not when 1.3 is asked for, and only ciphers that are listed', async (t) => {
  const attempt = async (port: number, options: object) => {
    const peer = connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false, ...options })
    return new Promise<string>((resolve) => {
      peer.once('secureConnect', () => resolve(`${peer.getProtocol()} ${peer.getCipher().name}`))
      peer.once('error', () => resolve('refused'))
    }).finally(() => peer.destroy())
  }
  const port = (url: string) => Number(new URL(url).port)
  const standard = port((await openStage(t, { tls: { enabled: true } })).exec(['x']))
  assert.equal(
    await attempt(standard, { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' }),
    'refused',
  )
  assert.match(await attempt(standard, { maxVersion: 'TLSv1.2' }), /^TLSv1\.2/)
  const strict = port((await openStage(t, { tls: { enabled: true, minVersion: '1.3' } })).exec(['x']))
  assert.equal(await attempt(strict, { maxVersion: 'TLSv1.2' }), 'refused')
  assert.match(await attempt(strict, {}), /^TLSv1\.3/)
  const ciphers = ['ECDHE-ECDSA-AES128-GCM-SHA256']
  const narrow = port((await openStage(t, { tls: { enabled: true, ciphers } })).exec(['x']))
  assert.equal(await attempt(narrow, { maxVersion: 'TLSv1.2' }), 'TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256')
  assert.equal(await attempt(narrow, { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES256-GCM-SHA384' }), 'refused')
})

test('with client authorities only their clients get through, and reload can ask for them', async (t) => {
  const dir = place(t)
  // A certificate that vouches for itself is its own authority; it has to be one for clients, so openssl makes it.
  const [keyFile, certFile] = [join(dir, 'client-key.pem'), join(dir, 'client.pem')]
  const options = [
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-days',
    '2',
    '-subj',
    '/CN=client',
  ]
  execFileSync('openssl', ['req', ...options, '-keyout', keyFile, '-out', certFile], { stdio: 'ignore' })
  const stage = await openStage(t, { tls: { enabled: true } })
  assert.equal(await statusOf(stage.exec(['exit'], noInput), lines), 101)
  stage.server.reload({ ...stage.config, tls: { ...stage.config.tls, clientCaFile: certFile } })
  await assert.rejects(statusOf(stage.exec(['exit'], noInput), lines))
  const stranger = makeSelfSigned(['x'])
  await assert.rejects(
    statusOf(stage.exec(['exit'], noInput), lines, { tls: { cert: stranger.cert, key: stranger.key } }),
  )
  const tls = { cert: execFileSync('cat', [certFile]), key: execFileSync('cat', [keyFile]) }
  assert.equal(await statusOf(stage.exec(['exit'], noInput), lines, { tls }), 101)
})

test('unusable TLS files keep the server from starting, by name', async (t) => {
  const dir = place(t)
  const files = writeTls(dir)
  const strangers = join(dir, 'other-key.pem')
  writeFileSync(strangers, makeSelfSigned(['x']).key)
  for (const [tls, what] of [
    [{ certFile: files.certFile, keyFile: join(dir, 'absent') }, /Cannot read ".*absent"/],
    [{ certFile: files.certFile, keyFile: strangers }, /Cannot use ".*cert\.pem", ".*other-key\.pem"/],
  ] as const)
    await assert.rejects(openStage(t, { tls: { enabled: true, ...tls } }), { kind: 'invalid-argument', message: what })
})
