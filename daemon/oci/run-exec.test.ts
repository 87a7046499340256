/** Commands in containers of the real runtime. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { linux } from '#linux/linux.ts'
import { isKind } from '#proto/errors.ts'
import { adoptOrphans } from '../reap-orphans.ts'
import { execArguments } from './exec-command.ts'
import { type ExecRequest, runExec } from './run-exec.ts'
import { Bundles, RUNC } from './spec/testing/bundle.ts'

const skip = existsSync(RUNC) && process.getuid?.() === 0 ? false : 'host lacks runc or root'
const children = adoptOrphans(linux)
const bundles = new Bundles()
after(() => bundles[Symbol.asyncDispose]())

const pidFiles = { next: 0 }
const pidFile = () => join(bundles.directory, `pid-${pidFiles.next++}`)

const exec = (request: Omit<ExecRequest, 'maxOutput'> & { maxOutput?: number }) =>
  runExec({ path: RUNC, root: bundles.root }, children, { maxOutput: 1024 * 1024, ...request })

const SLEEP = 'exec sleep 1000'

test('exec runs as the container does and keeps its hands off the words of the command', { skip }, async () => {
  const security = {
    namespaceOptions: { pid: 1 },
    runAsUser: { value: 1000 },
    runAsGroup: { value: 3000 },
    supplementalGroups: [2000],
    noNewPrivs: true,
    seccomp: { profileType: 0 },
  }
  const id = await bundles.start(SLEEP, {
    container: { envs: ['MINE=yes'], workingDir: '/tmp', linux: { securityContext: security } },
  })
  const run = (...command: string[]) => exec({ id, command, pidFile: pidFile() })

  const identity = await run('/bin/sh', '-c', 'id; pwd; echo $MINE $HOME; cat /proc/self/status; echo bad >&2; exit 7')
  const out = identity.stdout.toString()
  assert.deepEqual(identity.exit, { how: 'exited', code: 7 })
  assert.equal(identity.stderr.toString(), 'bad\n')
  assert.match(out, /uid=1000\(app\) gid=3000 groups=29\(audio\),2000,3000/)
  assert.match(out, /^\/tmp\nyes \/home\/app$/m)
  assert.match(out, /^NoNewPrivs:\t1$/m)
  assert.match(out, /^Seccomp:\t2$/m)
  assert.match(out, /^CapEff:\t0{16}$/m)

  for (const words of [['--help'], ['-d', '-t'], ['--', 'x'], ['--user', '0'], ['a\nb', '"$(id)"'], ['']]) {
    const echoed = await run('/bin/echo', ...words)
    assert.equal(echoed.stdout.toString(), `${words.join(' ')}\n`)
  }
  await assert.rejects(run('--detach'), (error) => isKind(error, 'failed-precondition'))
})

test('exec of what does not exist, and in what has ended, is an error of its own', { skip }, async () => {
  const { cli } = bundles
  const id = await bundles.start(SLEEP)
  const missing = exec({ id, command: ['/no/such/program'], pidFile: pidFile() })
  await assert.rejects(
    missing,
    (error) => isKind(error, 'failed-precondition') && /no\/such\/program/.test(error.message),
  )
  const exit255 = await exec({ id, command: ['/bin/sh', '-c', 'exit 255'], pidFile: pidFile() })
  assert.deepEqual(exit255.exit, { how: 'exited', code: 255 })
  await cli.delete(id, { force: true })
  const gone = exec({ id, command: ['/bin/true'], pidFile: pidFile() })
  await assert.rejects(gone, (error) => isKind(error, 'failed-precondition'))
})

test('execArguments() refuses what no process can be given', () => {
  const of = (command: string[]) => () => execArguments('/r', { id: 'c', command, pidFile: '/p' })
  assert.throws(of([]), (error) => isKind(error, 'invalid-argument'))
  assert.throws(of(['a', 'b\0c']), (error) => isKind(error, 'invalid-argument'))
})
