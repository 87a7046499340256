/** Trees that containers leave behind: deep, wide, hostile, with things mounted in them. Run through the worker, as the store does. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { linux } from '#linux/linux.ts'
import { isKind } from '#proto/errors.ts'
import { WorkerPool } from '../tar/worker-pool.ts'

const setUp = (t: TestContext): { pool: WorkerPool; trash: string; outside: string } => {
  const directory = mkdtempSync(join(tmpdir(), 'trees-'))
  const pool = new WorkerPool({ size: 1, idleMs: 1000 })
  t.after(async () => {
    await pool.close()
    execFileSync('rm', ['-rf', '--one-file-system', directory])
  })
  const [trash, outside] = [join(directory, 'trash'), join(directory, 'outside')]
  mkdirSync(join(trash, 'tree'), { recursive: true })
  mkdirSync(outside)
  writeFileSync(join(outside, 'precious'), 'untouched')
  return { pool, trash, outside }
}

/** A chain of directories as deep as told, far beyond what a path can name. */
const makeDeep = (directory: string, depth: number): void => {
  // Of all that can change into a directory by and by, perl alone is on every Debian.
  const script =
    'my $name = "d" x 100; chdir $ARGV[0] or die; for (1 .. $ARGV[1]) { mkdir $name or die; chdir $name or die } open(my $end, ">", "end") or die; print $end "x" x 5000'
  execFileSync('perl', ['-e', script, directory, String(depth)])
}

describe('emptying a directory', () => {
  it('removes trees that are deeper than paths can be', async (t) => {
    const { pool, trash } = setUp(t)
    makeDeep(join(trash, 'tree'), 500)
    assert.deepEqual(await pool.run('empty', { directory: trash }), { failures: [] })
    assert.deepEqual(readdirSync(trash), [])
  })

  it('removes links, never what they point to (CVE-2024-23652)', async (t) => {
    const { pool, trash, outside } = setUp(t)
    symlinkSync(outside, join(trash, 'tree/absolute'))
    symlinkSync('../../outside', join(trash, 'tree/relative'))
    symlinkSync(outside, join(trash, 'itself'))
    await pool.run('empty', { directory: trash })
    assert.deepEqual(readdirSync(trash), [])
    assert.equal(readFileSync(join(outside, 'precious'), 'utf8'), 'untouched')
  })

  it('does not enter what is mounted in a tree (B13)', async (t) => {
    const { pool, trash, outside } = setUp(t)
    const mounted = join(trash, 'tree/volume')
    mkdirSync(mounted)
    linux.bindMount(outside, mounted)
    const { failures } = await pool.run('empty', { directory: trash })
    linux.unmount(mounted, { detach: true })
    assert.equal(readFileSync(join(outside, 'precious'), 'utf8'), 'untouched')
    assert.ok(failures.length === 1 || !existsSync(mounted))
  })

  it('removes names that are no UTF-8', async (t) => {
    const { pool, trash } = setUp(t)
    mkdirSync(Buffer.from(`${trash}/tree/d\xe9`, 'latin1'))
    writeFileSync(Buffer.concat([Buffer.from(`${trash}/tree/d\xe9/f\xff`, 'latin1')]), 'x')
    assert.deepEqual(await pool.run('empty', { directory: trash }), { failures: [] })
    assert.deepEqual(readdirSync(trash), [])
  })

  it('goes on with the next tree when one resists', async (t) => {
    const { pool, trash } = setUp(t)
    writeFileSync(join(trash, 'tree/immutable'), 'x')
    try {
      execFileSync('chattr', ['+i', join(trash, 'tree/immutable')], { stdio: 'ignore' })
    } catch {
      return t.skip('host lacks immutable files')
    }
    mkdirSync(join(trash, 'other'))
    writeFileSync(join(trash, 'file'), 'x')
    const { failures } = await pool.run('empty', { directory: trash })
    execFileSync('chattr', ['-i', join(trash, 'tree/immutable')])
    assert.equal(failures.length, 1)
    assert.match(failures[0] ?? '', /^tree: .*EPERM/)
    assert.deepEqual(readdirSync(trash), ['tree'])
  })
})

describe('measuring a directory', () => {
  it('agrees with du, counts hard links once, reaches any depth', async (t) => {
    const { pool, trash } = setUp(t)
    const tree = join(trash, 'tree')
    writeFileSync(join(tree, 'a'), 'x'.repeat(50_000))
    linkSync(join(tree, 'a'), join(tree, 'b'))
    symlinkSync('a', join(tree, 'l'))
    makeDeep(tree, 100)
    execFileSync('sync', ['-f', tree])
    const du = (flag: string): number => Number(execFileSync('du', ['-s', flag, tree]).toString().split('\t')[0])
    assert.deepEqual(await pool.run('measure', { directory: tree }), {
      bytes: du('--block-size=1'),
      inodes: du('--inodes'),
    })
  })

  it('can be given up', async (t) => {
    const { pool, trash } = setUp(t)
    for (let i = 0; i < 2000; i++) writeFileSync(join(trash, `f${i}`), '')
    const abort = new AbortController()
    const measured = pool.run('measure', { directory: trash }, abort.signal)
    abort.abort()
    await assert.rejects(measured, (error) => isKind(error, 'cancelled'))
    assert.equal((await pool.run('measure', { directory: join(trash, 'tree') })).inodes, 1)
  })
})

describe('a job', () => {
  it('on a directory that does not exist fails and leaves the worker usable', async (t) => {
    const { pool, trash } = setUp(t)
    await assert.rejects(pool.run('measure', { directory: join(trash, 'missing') }), (error) =>
      isKind(error, 'internal'),
    )
    assert.equal((await pool.run('measure', { directory: trash })).inodes, 2)
  })

  it('that waits when the pool closes is told so', async (t) => {
    const { pool, trash } = setUp(t)
    const jobs = [1, 2, 3].map(() =>
      assert.rejects(pool.run('measure', { directory: trash }), (error) => isKind(error, 'unavailable')),
    )
    await pool.close()
    await Promise.all(jobs)
    rmSync(join(trash, 'tree'), { recursive: true })
  })
})
