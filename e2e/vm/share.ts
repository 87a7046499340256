/**
 * What the guest gets to see of this repository, as a read-only disk: the built programs, the unit file and the tests,
 * each bundled into one file, so that the guest needs no packages.
 */

import { cp, link, mkdir, rm, truncate, writeFile } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import * as esbuild from 'esbuild'
import { execa } from 'execa'
import { makeScratch } from './image.ts'

const PROGRAMS = [
  ...['bin/cricket', 'bin/conmon', 'lib/node', 'lib/sys.node', 'lib/pty.node'],
  ...['lib/cricket.cjs', 'lib/unpack-worker.cjs', 'lib/tree-worker.cjs', 'lib/conmon.cjs'],
]
const DISK_BYTES = 768 * 1024 * 1024
/**
 * File systems that keep project quotas, which the guest has the kernel for but no tools to make. Their files are mostly holes. One is
 * left out where the tool is missing, which an image in the cache does not need.
 */
const QUOTA_DISKS = [
  { name: 'ext4.img', mib: 64, make: ['mkfs.ext4', '-q', '-O', 'quota,project', '-E', 'quotatype=prjquota'] },
  { name: 'xfs.img', mib: 320, make: ['mkfs.xfs', '-q'] },
]
/** The suite for `critest.test.ts`, if it is to run. */
const CRITEST = process.env.CRICKET_VM_CRITEST
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
    if (CRITEST) await cp(CRITEST, join(content, 'critest'), { recursive: true, dereference: true })
    for (const { name, mib, make } of QUOTA_DISKS) {
      const [program = '', ...options] = make
      const path = await emptyFile(join(content, name), mib * 1024 * 1024)
      const { failed } = await tool(program, [...options, path], { reject: false })
      if (failed) await rm(path)
    }
    const disk = await emptyFile(join(scratch.dir, 'disk.img'), DISK_BYTES)
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

async function emptyFile(path: string, bytes: number): Promise<string> {
  await writeFile(path, '')
  await truncate(path, bytes)
  return path
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
