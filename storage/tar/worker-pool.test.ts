/** The worker as a thread of a process: what it may not do to the rest, and that it works inside a bundle. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { build } from 'esbuild'
import { WorkerPool } from './worker-pool.ts'

const top = join(import.meta.dirname, '../..')

/** A program that unpacks a layer and then looks at the host through the thread pool. */
const program = `
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { linux } from '#linux/linux.ts'
import { silentLog } from '#proto/log.ts'
import { digestOf } from '#storage/digest.ts'
import { openStorage } from '#storage/storage.ts'
import { archive, file } from '#storage/tar/testing/tarsmith.ts'
const main = async () => {
  const root = process.argv[2]
  const storage = await openStorage({ root, linux, log: silentLog })
  const tar = archive(file('etc/hostname', 'FROM THE LAYER'))
  const digest = digestOf(tar)
  await storage.blobs.put(digest, [tar])
  const looks = []
  const unpacking = storage.layers.unpack({ diffId: digest, blob: digest })
  for (let i = 0; i < 50; i++) looks.push(stat(root).then(() => readFile('/proc/self/comm')), stat('/etc/hostname').then(() => 1, (e) => e.code))
  const layer = await unpacking
  for (let i = 0; i < 50; i++) looks.push(stat(root))
  await Promise.all(looks)
  await writeFile(root + '/after', 'x')
  statSync(root + '/after')
  console.log(JSON.stringify({ layer, cwd: process.cwd(), umask: process.umask() }))
  await storage.close()
}
main()
`

describe('the worker thread', () => {
  it('leaves root, working directory and umask of the process alone, whose pool stays outside', (t) => {
    const directory = mkdtempSync(join(top, 'storage/tar/.test-'))
    t.after(() => rmSync(directory, { recursive: true }))
    writeFileSync(join(directory, 'program.ts'), program)
    const output = execFileSync(process.execPath, [join(directory, 'program.ts'), join(directory, 'storage')], {
      cwd: tmpdir(),
    })
    const { layer, cwd, umask } = JSON.parse(output.toString())
    assert.equal(readFileSync(join(layer.path, 'etc/hostname'), 'utf8'), 'FROM THE LAYER')
    assert.deepEqual([cwd, umask], [tmpdir(), process.umask()])
  })

  it('works when everything is bundled', async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'bundle-'))
    t.after(() => rmSync(directory, { recursive: true }))
    const shared = {
      bundle: true,
      platform: 'node',
      format: 'cjs',
      define: { 'import.meta.dirname': '__dirname' },
    } as const
    const stdin = { contents: program, resolveDir: top, loader: 'ts' } as const
    await build({ ...shared, stdin, outfile: join(directory, 'lib/program.cjs') })
    for (const name of ['tree-worker', 'unpack-worker'])
      await build({
        ...shared,
        entryPoints: [join(top, `storage/tar/${name}.ts`)],
        outfile: join(directory, `lib/${name}.cjs`),
      })
    copyFileSync(join(top, 'dist/lib/sys.node'), join(directory, 'lib/sys.node'))
    mkdirSync(join(directory, 'elsewhere'))
    const args = [join(directory, 'lib/program.cjs'), join(directory, 'storage')]
    const output = execFileSync(process.execPath, args, { cwd: join(directory, 'elsewhere') })
    assert.equal(JSON.parse(output.toString()).layer.inodes, 3)
  })

  it('is warm for the next job and ends when idle', async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'idle-'))
    const pool = new WorkerPool({ size: 2, idleMs: 50 })
    const descriptors = (): number => readdirSync('/proc/self/fd').length
    const before = descriptors()
    const warnings: string[] = []
    const warned = ({ message }: Error): void => void warnings.push(message)
    process.on('warning', warned)
    t.after(async () => {
      await pool.close()
      rmSync(directory, { recursive: true })
    })
    for (let i = 0; i < 3; i++) await pool.run('measure', { directory })
    assert.equal(pool.workers, 1)
    const deadline = Date.now() + 10_000
    while (pool.workers > 0 && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 20))
    assert.equal(pool.workers, 0)
    while (descriptors() > before && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 20))
    assert.equal(descriptors(), before)
    process.off('warning', warned)
    assert.deepEqual(warnings, [])
    assert.equal((await pool.run('measure', { directory })).inodes, 1)
  })
})
