/**
 * What the guest gets to see of this repository, as a read-only disk: the built programs, the unit file and the tests,
 * each bundled into one file, so that the guest needs no packages.
 */

import { cp, link, mkdir, truncate, writeFile } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import * as esbuild from 'esbuild'
import { execa } from 'execa'
import { makeScratch } from './image.ts'

const PROGRAMS = [
  ...['bin/cricket', 'bin/conmon', 'lib/node', 'lib/sys.node'],
  ...['lib/cricket.cjs', 'lib/unpack-worker.cjs', 'lib/conmon.cjs'],
]
const DISK_BYTES = 512 * 1024 * 1024
const tool = execa({ cwd: '/', env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } })
const TOP = resolve(import.meta.dirname, '../..')

/** Run by the guest's shell once it has booted. */
const INSTALL = `#!/bin/sh
# Installs Cricket as its packages would.
set -e
ln -s /share/dist /usr/libexec/cricket
ln -s /usr/libexec/cricket/bin/cricket /usr/bin/cricket
cp /share/cricket.service /etc/systemd/system/
systemctl daemon-reload
`

export interface Share extends AsyncDisposable {
  readonly disk: string
  /** Where the guest has the tests. */
  readonly tests: readonly string[]
}

/** @param tests paths of test files, from the top of the repository */
export async function makeShare(tests: readonly string[]): Promise<Share> {
  const scratch = await makeScratch('share')
  try {
    const content = join(scratch.dir, 'content')
    for (const name of ['dist/bin', 'dist/lib', 'e2e']) await mkdir(join(content, name), { recursive: true })
    await bundleTests(tests, join(content, 'e2e'))
    for (const name of PROGRAMS) await share(join(TOP, 'dist', name), join(content, 'dist', name))
    await cp(join(TOP, 'daemon/cricket.service'), join(content, 'cricket.service'))
    await writeFile(join(content, 'install'), INSTALL, { mode: 0o755 })
    const disk = join(scratch.dir, 'disk.img')
    await writeFile(disk, '')
    await truncate(disk, DISK_BYTES)
    await tool('mkfs.ext4', ['-q', '-O', '^has_journal', '-d', content, disk])
    return {
      disk,
      tests: tests.map((path) => `/share/e2e/${bundleName(path)}`),
      [Symbol.asyncDispose]: () => scratch[Symbol.asyncDispose](),
    }
  } catch (error) {
    await scratch[Symbol.asyncDispose]()
    throw error
  }
}

const bundleName = (path: string): string => basename(path).replace(/\.ts$/, '.cjs')

async function bundleTests(tests: readonly string[], outdir: string): Promise<void> {
  await esbuild.build({
    entryPoints: tests.map((path) => ({ in: join(TOP, path), out: basename(path, '.ts') })),
    outdir,
    outExtension: { '.js': '.cjs' },
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node26',
    define: { 'import.meta.dirname': '__dirname' },
    logLevel: 'error',
  })
}

/** A link where the cache is on the same file system, else a copy. */
const share = (from: string, to: string): Promise<void> => link(from, to).catch(() => cp(from, to))
