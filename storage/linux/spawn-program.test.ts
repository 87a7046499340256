import assert from 'node:assert/strict'
import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { createCgroup, removeCgroup } from './cgroup.ts'
import { isErrno } from './errno.ts'
import { type ChildExit, waitForChild } from './reaper.ts'
import { type Program, spawnProgram } from './spawn-program.ts'

const dir = mkdtempSync(join(tmpdir(), 'cricket-spawn-'))
after(() => rmSync(dir, { recursive: true }))

async function exitOf(pid: number): Promise<ChildExit> {
  for (;;) {
    const exit = waitForChild(pid)
    if (exit !== undefined) return exit
    await delay(5)
  }
}

/** What a shell command says, and how it ends. */
async function run(command: string, more: Partial<Program> = {}): Promise<{ said: string; exit: ChildExit }> {
  const path = join(dir, 'said')
  const out = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC)
  const stdio = ['ignore', out, out] as const
  const pid = spawnProgram({ path: '/bin/sh', args: ['-c', command], env: { PATH: '/bin:/usr/bin' }, stdio, ...more })
  closeSync(out)
  const exit = await exitOf(pid)
  return { said: readFileSync(path, 'utf8'), exit }
}

test('executes a program with these arguments, variables and descriptors, and no others', async () => {
  // The last descriptor is that of the directory that ls reads.
  const command = 'echo "$0|$1|$A"; pwd; exec ls /proc/self/fd'
  const args = ['-c', command, 'zero', 'ö n\ne']
  const { said, exit } = await run(command, { args, env: { PATH: '/bin:/usr/bin', A: 'b=c' } })
  assert.equal(said, 'zero|ö n\ne|b=c\n/\n0\n1\n2\n3\n')
  assert.deepEqual(exit, { pid: exit.pid, how: 'exited', code: 0 })
  const other = (await run('exit 7')).exit
  assert.deepEqual(other, { pid: other.pid, how: 'exited', code: 7 })
})

test('it leads a session or a group of ours, ignores and blocks no signal, and ends as it ends', async () => {
  // Read by the shell itself: while it starts a program it blocks all signals.
  const signals = 'while read -r line; do case "$line" in Sig[BI]*) echo "$line" ;; esac; done </proc/$$/status'
  const command = `cut -d " " -f 1,5,6 /proc/$$/stat; ${signals}; kill -9 $$`
  const { said, exit } = await run(command, { session: true })
  const none = '0'.repeat(16)
  assert.equal(said, `${exit.pid} ${exit.pid} ${exit.pid}\nSigBlk:\t${none}\nSigIgn:\t${none}\n`)
  assert.ok(exit.how === 'signaled' && exit.signal === 9)
  const grouped = await run('cut -d " " -f 1,5,6 /proc/$$/stat')
  const ourSession = readFileSync('/proc/self/stat', 'latin1')
    .replace(/^.*\) /s, '')
    .split(' ')[3]
  assert.equal(grouped.said, `${grouped.exit.pid} ${grouped.exit.pid} ${ourSession}\n`)
})

test('descriptors may change places', async () => {
  const paths = ['one', 'two'].map((name) => join(dir, name))
  const [one = -1, two = -1] = paths.map((path) => openSync(path, 'w'))
  // Wherever they are, some of them have to give way: fill the low numbers.
  const low = Array.from({ length: 8 }, () => openSync('/dev/null', 'r'))
  const args = ['-c', 'echo 1 >&3; echo 2 >&4; echo 3 >&5']
  await exitOf(spawnProgram({ path: '/bin/sh', args, env: {}, stdio: ['ignore', two, one, two, one, two] }))
  for (const fd of [one, two, ...low]) closeSync(fd)
  assert.deepEqual(
    paths.map((path) => readFileSync(path, 'utf8')),
    ['2\n', '1\n3\n'],
  )
})

test('the limit on open files and the score are its own; ours stay', async () => {
  const before = readFileSync('/proc/self/limits', 'utf8')
  writeFileSync('/proc/self/oom_score_adj', '7')
  try {
    const command = 'ulimit -Sn; cat /proc/self/oom_score_adj'
    assert.equal((await run(command, { openFiles: 99, neutralOomScore: true })).said, '99\n0\n')
    assert.match((await run(command)).said, /\n7\n$/)
    assert.equal(readFileSync('/proc/self/oom_score_adj', 'utf8'), '7\n')
  } finally {
    writeFileSync('/proc/self/oom_score_adj', '0')
  }
  assert.equal(readFileSync('/proc/self/limits', 'utf8'), before)
})

test('it is in its cgroup before it is executed, in every hierarchy', async () => {
  const cgroup = `/cricket-spawn-test-${process.pid}`
  createCgroup(cgroup)
  try {
    const { said } = await run('cat /proc/$$/cgroup', { cgroup })
    const lines = said.trim().split('\n')
    assert.ok(lines.length > 0 && lines.every((line) => line.endsWith(`:${cgroup}`)), said)
  } finally {
    await removeCgroup(cgroup)
  }
})

test('what cannot be executed is told by its path, and leaves no child', () => {
  const stdio = ['ignore'] as const
  for (const [path, code] of [
    ['/nonesuch/program', 'ENOENT'],
    ['/tmp', 'EACCES'],
  ]) {
    assert.throws(
      () => spawnProgram({ path: path ?? '', args: [], env: {}, stdio }),
      (error) => isErrno(error, code ?? '') && error.message.includes(path ?? ''),
    )
  }
  assert.throws(() => spawnProgram({ path: '/bin/true', args: ['a\0b'], env: {}, stdio }), /contains a NUL/)
  assert.throws(() => spawnProgram({ path: '/bin/true', args: [], env: {}, stdio: [9999] }), { code: 'EBADF' })
  assert.throws(() => waitForChild(process.pid), { code: 'ECHILD' })
})
