/**
 * What a run did to a disk, as a list of small changes, and the file system that they add up to. Inodes and directory
 * entries, as kernels have them: a rename is one change of two entries, and what is not synced is not there for certain.
 */

export type Ino = number

/** undefined: the name goes. */
export interface EntryChange {
  readonly dir: Ino
  readonly name: string
  readonly to: Ino | undefined
}

export type Change =
  /** One change of the name space, persisted whole or not at all. */
  | { readonly is: 'entries'; readonly what: string; readonly entries: readonly EntryChange[] }
  | { readonly is: 'write'; readonly what: string; readonly ino: Ino; readonly at: number; readonly bytes: Uint8Array }
  | { readonly is: 'truncate'; readonly what: string; readonly ino: Ino; readonly size: number }
  /** What was done before the change number `before` is on the disk: of an inode, or of everything. */
  | { readonly is: 'sync'; readonly what: string; readonly ino: Ino | 'all'; readonly before: number }
  /** Nothing of the disk: what a caller was told. */
  | { readonly is: 'told'; readonly what: string }

export type Node =
  | { readonly is: 'dir'; readonly names: Map<string, Ino> }
  | { readonly is: 'file'; content: Buffer }
  | { readonly is: 'link'; readonly target: string }

export const TOP: Ino = 0

/** The nodes that a log speaks of; their content comes from its changes. */
export type BornAs = { readonly is: 'dir' } | { readonly is: 'file' } | { readonly is: 'link'; readonly target: string }
export type Born = ReadonlyMap<Ino, BornAs>

/** A file system in memory. Changes are applied in the order of calls. */
export class Disk {
  readonly nodes = new Map<Ino, Node>()
  readonly #born: Born

  constructor(born: Born) {
    this.#born = born
    this.nodes.set(TOP, { is: 'dir', names: new Map() })
  }

  apply(change: Change): void {
    if (change.is === 'entries') for (const entry of change.entries) this.#entry(entry)
    if (change.is === 'write') this.#write(change.ino, change.at, change.bytes)
    if (change.is === 'truncate') this.#resize(change.ino, change.size)
  }

  /** Every path with what is there, directories before what is in them; the top is ''. */
  *walk(): Generator<[path: string, node: Node]> {
    const steps: [string, Ino][] = [['', TOP]]
    for (let step = steps.pop(); step !== undefined; step = steps.pop()) {
      const node = this.node(step[1])
      yield [step[0], node]
      if (node.is === 'dir') for (const [name, ino] of node.names) steps.push([`${step[0]}/${name}`, ino])
    }
  }

  node(ino: Ino): Node {
    const there = this.nodes.get(ino)
    if (there !== undefined) return there
    const born = this.#born.get(ino)
    if (born === undefined) throw new Error(`inode ${ino} was never made`)
    const node = newNode(born)
    this.nodes.set(ino, node)
    return node
  }

  #entry({ dir, name, to }: EntryChange): void {
    const node = this.node(dir)
    if (node.is !== 'dir') throw new Error(`inode ${dir} is no directory`)
    if (to === undefined) node.names.delete(name)
    else node.names.set(name, to)
  }

  #write(ino: Ino, at: number, bytes: Uint8Array): void {
    const node = this.node(ino)
    if (node.is !== 'file') throw new Error(`inode ${ino} is no file`)
    this.#resize(ino, Math.max(node.content.length, at + bytes.length))
    node.content.set(bytes, at)
  }

  /** Copies, so that disks can share content. */
  #resize(ino: Ino, size: number): void {
    const node = this.node(ino)
    if (node.is !== 'file') throw new Error(`inode ${ino} is no file`)
    const content = Buffer.alloc(size)
    node.content.copy(content, 0, 0, Math.min(size, node.content.length))
    node.content = content
  }
}

const newNode = (born: BornAs): Node => {
  if (born.is === 'dir') return { is: 'dir', names: new Map() }
  return born.is === 'file' ? { is: 'file', content: Buffer.alloc(0) } : born
}
