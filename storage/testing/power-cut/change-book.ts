/** The changes of a disk as they are made, with what they add up to: paths become inodes here. For tests. */
import fs, { type PathLike } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { type BornAs, type Change, Disk, type Ino, type Node, TOP } from './disk-log.ts'

const CREATES = fs.constants.O_CREAT

export class Book {
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
