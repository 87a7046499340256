/**
 * Writes down every change that this process makes below a directory, at the boundary to the system: the functions of
 * node:fs are replaced while a recording runs, so nothing that is tested knows of it. What worker threads make in trees is
 * written down when they are done, as if file by file. For tests.
 */
import fs, { type PathLike } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { dirname, join, relative } from 'node:path'
import { type Linux, linux as realLinux } from '#linux/linux.ts'
import { WorkerPool } from '../../tar/worker-pool.ts'
import { type Born, type BornAs, type Change, Disk, type Ino, type Node, TOP } from './disk-log.ts'

export interface Recording {
  readonly log: readonly Change[]
  readonly born: Born
  /** For what is tested: its syncfs is written down, and takes no time. */
  readonly linux: Linux
  /** Writes down that a caller was told something. */
  told(what: string): void
  stop(): void
}

// biome-ignore lint/suspicious/noExplicitAny: functions of any kind are replaced by others of the same kind
type Any = any

/** Only one at a time. `root` has to exist and be empty. */
export const recordWrites = async (root: string): Promise<Recording> => {
  const book = new Book(root)
  const undo: (() => void)[] = []
  const patch = (target: Any, name: string, make: (original: Any) => Any): void => {
    const original = target[name]
    target[name] = make(original)
    undo.push(() => Reflect.set(target, name, original))
  }
  const probe = await fs.promises.open(root, 'r')
  const handles = Object.getPrototypeOf(probe)
  await probe.close()
  for (const [name, note] of Object.entries(noted(book))) {
    patch(fs.promises, name, (original) => async (...args: Any[]) => {
      const before = book.begin()
      const result = await original.apply(fs.promises, args)
      note(args, result, before)
      return result
    })
    patch(fs, `${name}Sync`, (original) => (...args: Any[]) => {
      const before = book.begin()
      const result = original.apply(fs, args)
      note(args, result, before)
      return result
    })
  }
  patch(fs, 'fsyncSync', (original) => (fd: number) => {
    original(fd)
    book.sync(fd, book.begin())
  })
  patch(fs, 'writeSync', (original) => (fd: number, bytes: Uint8Array, at: number, length: number) => {
    const count = original(fd, bytes, at, length)
    book.write(fd, bytes.subarray(at, at + count))
    return count
  })
  for (const [name, note] of Object.entries(notedHandles(book)))
    patch(
      handles,
      name,
      (original) =>
        async function (this: fs.promises.FileHandle, ...args: Any[]) {
          const before = book.begin()
          const result = await original.apply(this, args)
          note(this.fd, args, result, before)
          return result
        },
    )
  patch(
    WorkerPool.prototype,
    'run',
    (original) =>
      async function (this: WorkerPool, job: string, request: Any, signal: Any) {
        if (job === 'empty') book.emptied(request.directory)
        const result = await original.call(this, job, request, signal)
        if (job === 'unpack') book.found(request.directory)
        if (job === 'fix-up') book.found(join(request.directory, request.target))
        return result
      },
  )
  syncBuiltinESMExports()
  return {
    log: book.log,
    born: book.born,
    linux: { ...realLinux, syncfs: async () => book.sync('all', book.begin()) },
    told: (what) => book.add({ is: 'told', what }),
    stop: () => {
      for (const step of undo.reverse()) step()
      syncBuiltinESMExports()
    },
  }
}

type Note = (args: Any[], result: Any, before: number) => void

const noted = (book: Book): Record<string, Note> => ({
  open: ([path, flags], result) => book.open(path, flags, typeof result === 'number' ? result : result.fd),
  mkdir: ([path]) => book.make(path, { is: 'dir' }),
  rename: ([from, to]) => book.rename(from, to),
  link: ([from, to]) => book.link(from, to),
  unlink: ([path]) => book.unlink(path),
  rmdir: ([path]) => book.unlink(path),
  rm: ([path]) => book.removed(path),
  writeFile: ([path, data]) => book.wrote(path, data),
})

const notedHandles = (book: Book): Record<string, (fd: number, args: Any[], result: Any, before: number) => void> => ({
  sync: (fd, _args, _result, before) => book.sync(fd, before),
  truncate: (fd, [size = 0]) => book.truncate(fd, size),
  writeFile: (fd, [data]) => book.write(fd, Buffer.from(data)),
  write: (fd, [bytes, offset, , position], { bytesWritten }) =>
    book.write(fd, bytes.subarray(offset, offset + bytesWritten), position),
})

const CREATES = fs.constants.O_CREAT

class Book {
  readonly log: Change[] = []
  readonly born = new Map<Ino, BornAs>()
  readonly #root: string
  readonly #disk = new Disk(this.born)
  readonly #files = new Map<number, Ino>()
  #next: Ino = TOP + 1

  constructor(root: string) {
    this.#root = root
  }

  add(change: Change): void {
    this.log.push(change)
    this.#disk.apply(change)
  }

  /** The place in the log at which a call begins: a sync covers what was there by then. */
  begin(): number {
    return this.log.length
  }

  open(path: PathLike, flags: string | number | undefined, fd: number): void {
    this.#files.delete(fd)
    if (!this.#isOurs(path)) return
    const creates = typeof flags === 'number' ? (flags & CREATES) !== 0 : /^[wa]/.test(flags ?? 'r')
    const ino = this.#find(path) ?? (creates ? this.make(path, { is: 'file' }) : undefined)
    if (ino === undefined) return
    this.#files.set(fd, ino)
    if (typeof flags === 'string' && flags.startsWith('w')) this.#truncate(ino, 0, path)
  }

  make(path: PathLike, node: BornAs): Ino | undefined {
    if (!this.#isOurs(path)) return undefined
    const there = this.#find(path)
    if (there !== undefined) return there
    // Made with the directories above it.
    if (this.#find(dirname(String(path))) === undefined) this.make(dirname(String(path)), { is: 'dir' })
    const { dir, name } = this.#place(path)
    const ino = this.#next++
    this.born.set(ino, node)
    this.add({ is: 'entries', what: `make ${this.#short(path)}`, entries: [{ dir, name, to: ino }] })
    return ino
  }

  rename(from: PathLike, to: PathLike): void {
    if (!this.#isOurs(from)) return
    const ino = this.#find(from)
    const [source, target] = [this.#place(from), this.#place(to)]
    const entries = [
      { ...source, to: undefined },
      { ...target, to: ino },
    ]
    this.add({ is: 'entries', what: `rename ${this.#short(from)} ${this.#short(to)}`, entries })
  }

  link(from: PathLike, to: PathLike): void {
    if (!this.#isOurs(to)) return
    const entries = [{ ...this.#place(to), to: this.#find(from) }]
    this.add({ is: 'entries', what: `link ${this.#short(from)} ${this.#short(to)}`, entries })
  }

  unlink(path: PathLike): void {
    if (!this.#isOurs(path)) return
    const entries = [{ ...this.#place(path), to: undefined }]
    this.add({ is: 'entries', what: `unlink ${this.#short(path)}`, entries })
  }

  /** Removed with all that was in it, from the bottom up. */
  removed(path: PathLike): void {
    if (!this.#isOurs(path) || this.#find(path) === undefined) return
    const node = this.#disk.node(this.#find(path) ?? TOP)
    if (node.is === 'dir') for (const name of node.names.keys()) this.removed(join(String(path), name))
    this.unlink(path)
  }

  /** What a directory held is removed. */
  emptied(path: string): void {
    for (const name of fs.readdirSync(path)) this.removed(join(path, name))
  }

  /** Writes down what is in a real directory and not yet in the book. */
  found(path: string): void {
    for (const entry of fs.readdirSync(path, { withFileTypes: true })) {
      const child = join(path, entry.name)
      if (entry.isDirectory()) {
        this.make(child, { is: 'dir' })
        this.found(child)
      } else if (entry.isSymbolicLink()) this.make(child, { is: 'link', target: fs.readlinkSync(child) })
      else if (entry.isFile()) this.wrote(child, fs.readFileSync(child))
    }
  }

  wrote(path: PathLike, data: string | Uint8Array): void {
    const ino = this.make(path, { is: 'file' })
    if (ino === undefined) return
    this.add({ is: 'write', what: `write ${this.#short(path)}`, ino, at: 0, bytes: Buffer.from(data) })
  }

  /** At the end of the file when no position is given. */
  write(fd: number, bytes: Uint8Array, position?: number): void {
    const ino = this.#files.get(fd)
    if (ino === undefined) return
    const node = this.#disk.node(ino)
    const at = position ?? (node.is === 'file' ? node.content.length : 0)
    this.add({ is: 'write', what: `write ${bytes.length} bytes of #${ino}`, ino, at, bytes: Buffer.from(bytes) })
  }

  truncate(fd: number, size: number): void {
    const ino = this.#files.get(fd)
    if (ino !== undefined) this.#truncate(ino, size, `#${ino}`)
  }

  sync(fd: number | 'all', before: number): void {
    const ino = fd === 'all' ? fd : this.#files.get(fd)
    if (ino !== undefined) this.add({ is: 'sync', what: `sync ${this.#pathOf(ino)}`, ino, before })
  }

  #truncate(ino: Ino, size: number, path: PathLike): void {
    this.add({ is: 'truncate', what: `truncate ${String(path)} to ${size}`, ino, size })
  }

  #pathOf(ino: Ino | 'all'): string {
    if (ino === 'all') return 'all'
    for (const [path] of this.#disk.walk()) if (path !== '' && this.#find(`${this.#root}${path}`) === ino) return path
    return ino === TOP ? 'top' : `#${ino}`
  }

  #isOurs(path: PathLike): boolean {
    return String(path).startsWith(`${this.#root}/`) || String(path) === this.#root
  }

  #short(path: PathLike): string {
    return relative(this.#root, String(path)).replaceAll(/[0-9a-f]{56,}/g, '')
  }

  #place(path: PathLike): { dir: Ino; name: string } {
    const parts = relative(this.#root, String(path)).split('/')
    const name = parts.pop() ?? ''
    const dir = this.#resolve(parts)
    if (dir === undefined) throw new Error(`the directory of "${path}" was never made`)
    return { dir, name }
  }

  #find(path: PathLike): Ino | undefined {
    return this.#resolve(
      relative(this.#root, String(path))
        .split('/')
        .filter((part) => part !== ''),
    )
  }

  #resolve(parts: readonly string[]): Ino | undefined {
    let ino: Ino | undefined = TOP
    for (const part of parts) {
      const node: Node | undefined = ino === undefined ? undefined : this.#disk.node(ino)
      ino = node?.is === 'dir' ? node.names.get(part) : undefined
    }
    return ino
  }
}
