/**
 * The image of the virtual machine, made once per recipe and kept outside the repository, in
 * `${XDG_CACHE_HOME:-/var/cache}/cricket-vm/<hash of the recipe>`. Images of older recipes are removed.
 */

import { createHash } from 'node:crypto'
import { existsSync, globSync, rmSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { execa, execaSync } from 'execa'

const SUITE = 'trixie'
const INDEX_TARGETS = ['indextargets', '--format', '$(REPO_URI)', 'Created-By: Packages']
/** Where this machine has its own packages from; nothing on a host that is not Debian. */
const ownMirror = (): string => {
  const apt = execaSync('/usr/bin/apt-get', INDEX_TARGETS, { reject: false })
  const mirror = apt.stdout?.split('\n').find((uri) => /\/debian\/?$/.test(uri)) ?? ''
  return mirror.replace(/\/$/, '')
}
export const MIRROR = process.env.CRICKET_VM_MIRROR ?? ownMirror()
export const CACHE = join(process.env.XDG_CACHE_HOME || '/var/cache', 'cricket-vm')

/** Nothing that the recipe mounts or starts outlives it, nor it us. */
const ALONE = [
  ...['setpriv', '--pdeathsig', 'KILL', 'unshare', '--mount', '--propagation', 'private'],
  ...['--pid', '--fork', '--kill-child', '--mount-proc'],
]

export interface Image {
  readonly dir: string
  readonly kernel: string
  readonly initrd: string
  readonly disk: string
  /** The emulator's own tree of programs, libraries and firmware. */
  readonly qemu: string
}

/** Whether it was made before, so that nothing need be fetched. */
export const hasImage = async (): Promise<boolean> => existsSync(await imageDirectory())

/** Takes the image from the cache, or makes it: a minute and 150 MB from the mirror. */
export async function findOrMakeImage(say: (text: string) => void): Promise<Image> {
  const dir = await imageDirectory()
  if (!existsSync(dir)) await makeImage(dir, say)
  const part = (name: string) => join(dir, name)
  return { dir, kernel: part('vmlinuz'), initrd: part('initrd'), disk: part('root.img'), qemu: part('qemu') }
}

async function imageDirectory(): Promise<string> {
  const files = globSync('{make-image.sh,guest/**}', { cwd: import.meta.dirname }).sort()
  const hash = createHash('sha256').update(`${SUITE} ${MIRROR}`)
  for (const name of files) {
    const path = join(import.meta.dirname, name)
    if ((await stat(path)).isFile()) hash.update(`\0${name}\0`).update(await readFile(path))
  }
  return join(CACHE, hash.digest('hex').slice(0, 16))
}

async function makeImage(dir: string, say: (text: string) => void): Promise<void> {
  for (const name of await readdir(CACHE)) if (IMAGE_NAME.test(name)) await rm(join(CACHE, name), { recursive: true })
  await using made = await makeScratch('image')
  const scratch = made.dir
  const begin = performance.now()
  const log = { file: join(scratch, 'log') }
  const [program = '', ...args] = [...ALONE, join(import.meta.dirname, 'make-image.sh'), scratch, SUITE, MIRROR]
  const { exitCode } = await execa(program, args, {
    stdin: 'ignore',
    stdout: [log, 'pipe'],
    stderr: log,
    buffer: false,
    reject: false,
  })
  if (exitCode !== 0) throw new Error(`cannot make the image:\n${(await readFile(log.file, 'utf8')).slice(-4000)}`)
  // Somebody else may have made the same in the meantime.
  await rename(scratch, dir).catch((error) => {
    if (!existsSync(dir)) throw error
  })
  say(`image made (${((performance.now() - begin) / 1000).toFixed(0)} s)`)
}

const IMAGE_NAME = /^[0-9a-f]{16}$/
const SCRATCH_NAME = /^scratch-(\d+)-/

/** A directory in the cache for as long as this process needs it; also removes those of processes that are no more. */
export async function makeScratch(what: string): Promise<AsyncDisposable & { readonly dir: string }> {
  await mkdir(CACHE, { recursive: true })
  for (const name of await readdir(CACHE)) {
    const owner = SCRATCH_NAME.exec(name)?.[1]
    if (owner !== undefined && !existsSync(`/proc/${owner}`)) await rm(join(CACHE, name), { recursive: true })
  }
  const dir = await mkdtemp(join(CACHE, `scratch-${process.pid}-${what}-`))
  const removeNow = () => rmSync(dir, { recursive: true, force: true })
  process.once('exit', removeNow)
  return {
    dir,
    async [Symbol.asyncDispose]() {
      process.off('exit', removeNow)
      await rm(dir, { recursive: true, force: true })
    },
  }
}
