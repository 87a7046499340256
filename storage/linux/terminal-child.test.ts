import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { setAllCloexec } from './pipes.ts'
import { isAlive, processIdentity } from './proc.ts'
import { startInTerminal, type TerminalChild } from './terminal-child.ts'

const size = { width: 80, height: 24 }
const env = { PATH: '/usr/bin:/bin' }
const children: TerminalChild[] = []
after(() => {
  for (const child of children) child.close()
})

const start = (script: string, options: Partial<Parameters<typeof startInTerminal>[0]> = {}): TerminalChild => {
  const child = startInTerminal({ path: '/bin/sh', args: ['-c', script], env, size, ...options })
  children.push(child)
  return child
}

/** Everything that comes until the terminal's end. */
const outputOf = async (child: TerminalChild): Promise<Buffer> => {
  const chunks: Buffer[] = []
  child.output.on('data', (chunk: Buffer) => chunks.push(chunk))
  child.output.resume()
  await once(child.output, 'end')
  return Buffer.concat(chunks)
}

test('a program gets a terminal of the given size, and exactly the environment it is given', async () => {
  const child = start('tty; stty size; env | sort; pwd; exit 7', {
    env: { ...env, TERM: 'xterm' },
    size: { width: 101, height: 37 },
  })
  const text = (await outputOf(child)).toString()
  assert.match(text, /^\/dev\/pts\/\d+\r\n37 101\r\n/)
  assert.doesNotMatch(text, /npm_|NODE_/)
  assert.match(text, /^TERM=xterm\r$/m)
  assert.match(text, /^\/\r$/m)
  assert.deepEqual(await child.exited, { how: 'exited', code: 7 })
})

test('it learns of a new size by SIGWINCH', async () => {
  const child = start('trap "stty size; exit" WINCH; echo up; while :; do sleep 0.05; done')
  const seen = outputOf(child)
  await once(child.output, 'data')
  child.resize({ width: 55, height: 66 })
  assert.match((await seen).toString(), /66 55/)
})

test('its death by a signal is told as such', async () => {
  const child = start('kill -9 $$')
  child.output.resume()
  assert.deepEqual(await child.exited, { how: 'signaled', signal: 9 })
})

test('nothing of its output is lost when it ends while nobody reads', async () => {
  const child = start('stty -opost; head -c 3000 /dev/zero | tr "\\0" x')
  child.output.pause()
  await child.exited
  await sleep(500)
  assert.equal((await outputOf(child)).length, 3000)
})

test('its output waits for a reader that pauses', async () => {
  const child = start('stty -opost; i=0; while [ $i -lt 200000 ]; do echo $i; i=$((i+1)); done')
  const chunks: Buffer[] = []
  child.output.on('data', (chunk: Buffer) => {
    chunks.push(chunk)
    if (chunks.length % 20 !== 0) return
    child.output.pause()
    setTimeout(() => child.output.resume(), 1)
  })
  await once(child.output, 'end')
  const lines = Buffer.concat(chunks).toString().trimEnd().split('\n')
  assert.equal(lines.length, 200_000)
  assert.equal(lines.at(-1), '199999')
})

test('bytes go in as they are, before the program sets its terminal, too', async () => {
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, value) => value))
  const child = start('sleep 0.2; head -c 256 | sha256sum')
  child.input.write(bytes)
  const text = (await outputOf(child)).toString()
  assert.match(text, new RegExp(createHash('sha256').update(bytes).digest('hex')))
})

test('a paste that the program is slow to read arrives whole, and blocks nobody', async () => {
  const paste = Buffer.alloc(2_000_000, 'all work and no play\n')
  const child = start(`sleep 0.5; head -c ${paste.length} | sha256sum`)
  const seen = outputOf(child)
  let ticks = 0
  const clock = setInterval(() => ticks++, 5)
  child.input.write(paste)
  const text = (await seen).toString()
  clearInterval(clock)
  assert.match(text, new RegExp(createHash('sha256').update(paste).digest('hex')))
  assert.ok(ticks > 20, `the event loop turned ${ticks} times`)
})

test('its terminal is open in no other child', async () => {
  // As the daemon does when it starts.
  setAllCloexec()
  const first = start('sleep 100')
  const second = start('sleep 100')
  const masters = (pid: number) =>
    readdirSync(`/proc/${pid}/fd`).filter((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`).includes('ptmx'))
  await sleep(200)
  assert.deepEqual(masters(second.pid), [])
  assert.deepEqual(readdirSync(`/proc/${second.pid}/fd`).length, 3)
  assert.notEqual(first.pid, second.pid)
})

test('closing it hangs up', async () => {
  const child = start('echo up; sleep 1000')
  await once(child.output, 'data')
  const identity = processIdentity(child.pid)
  child.close()
  child.close()
  child.resize(size)
  assert.deepEqual(await child.exited, { how: 'signaled', signal: 1 })
  assert.ok(identity && !isAlive(identity))
})

test('a program that is not there says so on the terminal', async () => {
  const child = start('', { path: '/no/such/program' })
  assert.match((await outputOf(child)).toString(), /No such file/)
  assert.deepEqual(await child.exited, { how: 'exited', code: 1 })
})

test('a hundred of them leave no descriptor', async () => {
  const count = () => readdirSync('/proc/self/fd').length
  const before = count()
  for (let round = 0; round < 10; round++) {
    const some = Array.from({ length: 10 }, () => start('exit 0'))
    await Promise.all(some.map(async (child) => [await outputOf(child), await child.exited]))
    for (const child of some) child.close()
  }
  await sleep(100)
  assert.ok(count() <= before + 2, readFileSync('/proc/self/limits', 'utf8'))
})
