import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Writable } from 'node:stream'
import { test } from 'node:test'
import { RuntimeError } from '#proto/errors.ts'
import { createLog, type LogOptions } from './logging.ts'

const capture = (options: Omit<LogOptions, 'stream'>) => {
  let text = ''
  const stream = new Writable({
    write(chunk, _encoding, done) {
      text += chunk
      done()
    },
  })
  return { log: createLog({ ...options, stream }), text: () => text, records: () => recordsOf(text) }
}

const recordsOf = (text: string): Record<string, unknown>[] =>
  text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line))

test('createLog() writes JSON lines with time, level, message and fields', () => {
  const { log, records } = capture({ level: 'info', format: 'json' })
  log.info('Start sandbox', { sandbox: 'abc', attempt: 2, size: 5n })
  const [record] = records()
  assert.match(String(record?.time), /^\d{4}-\d\d-\d\dT.*Z$/)
  assert.deepEqual(
    { ...record, time: 0 },
    { time: 0, level: 'info', message: 'Start sandbox', sandbox: 'abc', attempt: 2, size: '5' },
  )
})

test('createLog() writes text lines, one per message whatever the message holds', () => {
  const { log, text } = capture({ level: 'debug', format: 'text' })
  log.warn('Two\nlines "quoted" \u001b[31m\u009b', { path: '/a b', id: 'abc', empty: '', list: [1, 'x'] })
  const lines = text().split('\n')
  assert.equal(lines.length, 2)
  assert.match(
    lines[0] ?? '',
    /Z warn {2}Two\\nlines "quoted" \\u001b\[31m\\u009b path="\/a b" id=abc empty="" list=\[1,"x"\]$/,
  )
})

test('a disabled level does not even look at its fields', () => {
  const { log, text } = capture({ level: 'warn' })
  const trap = new Proxy({}, { ownKeys: () => assert.fail('fields were read') })
  log.debug('no', trap)
  log.info('no', trap)
  log.child({ a: 1 }).info('no', trap)
  assert.equal(text(), '')
  log.error('yes')
  assert.match(text(), /error yes/)
})

test('child() adds its fields to every line, and children of children too', () => {
  const { log, records } = capture({ level: 'info', format: 'json' })
  const child = log.child({ sandbox: 's' }).child({ container: 'c' })
  child.info('one', { sandbox: 't' })
  child.error('two')
  assert.deepEqual(
    records().map(({ sandbox, container }) => ({ sandbox, container })),
    [
      { sandbox: 't', container: 'c' },
      { sandbox: 's', container: 'c' },
    ],
  )
})

test('errors are written with kind, code and the chain of causes', () => {
  const { log, records } = capture({ level: 'info', format: 'json' })
  const inner = Object.assign(new Error('no such file'), { code: 'ENOENT', path: '/x' })
  const outer = new RuntimeError('not-found', 'Cannot open it', { cause: new Error('middle', { cause: inner }) })
  log.error('Failed', { error: outer })
  const error = records()[0]?.error as { kind: string; cause: { message: string; stack: string; cause: object } }
  assert.equal(error.kind, 'not-found')
  assert.equal('stack' in error, false)
  assert.equal(error.cause.message, 'middle')
  assert.match(error.cause.stack, /logging\.test/)
  assert.deepEqual(error.cause.cause, { name: 'Error', message: 'no such file', code: 'ENOENT', path: '/x' })
})

test('secrets never reach the output, at any depth and in any spelling', () => {
  for (const format of ['json', 'text'] as const) {
    const { log, text } = capture({ level: 'debug', format })
    const secrets = {
      password: 'MARK',
      Token: 'MARK',
      identityToken: 'MARK',
      identity_token: 'MARK',
      Authorization: 'MARK',
    }
    log
      .child({ registryToken: 'MARK' })
      .info('pull', { request: { auth: { username: 'MARK' }, list: [secrets] }, ...secrets })
    log.info('map', { headers: new Map([['authorization', 'MARK']]) })
    assert.doesNotMatch(text(), /MARK/)
    assert.match(text(), /\[redacted\]/)
  }
})

test('no field makes a log call throw', () => {
  const { log, records } = capture({ level: 'info', format: 'json' })
  const circle: Record<string, unknown> = { name: 'circle' }
  circle.self = circle
  const looped = new Error('looped')
  looped.cause = looped
  const hostile = {
    get bad(): never {
      throw new Error('getter')
    },
  }
  const revoked = Proxy.revocable({}, {})
  revoked.revoke()
  const odd = { toJSON: () => assert.fail('toJSON'), undefined, big: 2n ** 70n, symbol: Symbol('s'), nan: Number.NaN }
  for (const fields of [{ circle }, { looped }, { hostile }, revoked.proxy, odd, { buffer: Buffer.alloc(9) }]) {
    log.info('survives', fields)
  }
  log.info('reserved', { level: 'x', message: 'y', time: 'z' })
  const all = records()
  assert.equal(all.length, 7)
  assert.deepEqual(
    { ...all[6], time: 0 },
    { time: 0, level: 'info', message: 'reserved', level_: 'x', message_: 'y', time_: 'z' },
  )
})

test('long strings and wide objects are cut', () => {
  const { log, text } = capture({ level: 'info', format: 'json' })
  log.info('big', {
    stderr: 'x'.repeat(1e6),
    wide: Object.fromEntries(Array.from({ length: 5000 }, (_, n) => [`k${n}`, n])),
  })
  assert.ok(text().length < 20_000)
})

test('a reader of standard error that goes away does not end the process', async () => {
  const script = `
    import { createLog } from ${JSON.stringify(`${import.meta.dirname}/logging.ts`)}
    const log = createLog({ level: 'info' })
    process.stdin.once('data', () => {
      for (let n = 0; n < 50; n++) log.info('nobody reads this')
      setTimeout(() => { log.info('still here'); process.stdout.write('alive') }, 50)
    })`
  const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  child.stderr.destroy()
  let out = ''
  child.stdout.on('data', (chunk) => {
    out += chunk
  })
  child.stdin.end('go')
  const [code] = await once(child, 'close')
  assert.equal(out, 'alive')
  assert.equal(code, 0)
})
