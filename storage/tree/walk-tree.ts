/**
 * Visits everything below a directory without recursion, without following links and whatever the depth: where a path
 * would grow too long the walk goes on relative to a directory that it holds open. Only for a confined thread (it moves
 * the working directory); all calls are synchronous.
 */
import { closeSync, constants, type Dirent, opendirSync, openSync } from 'node:fs'
import { changeDirectory } from '../tar/confine.ts'
import { toBytes } from './bytes.ts'

/** Paths are relative to the working directory at the time of the call, one character per byte. */
export interface TreeVisitor {
  /** Anything but a directory. */
  leaf(path: string): void
  /** A directory, before what is in it. */
  enter?(path: string): void
  /** A directory, after what is in it. */
  leave?(path: string): void
  /** Called often; throw to stop. */
  checkpoint?(): void
}

/** An open directory that paths start from. */
interface Base {
  readonly fd: number
}

type Step =
  | { readonly do: 'enter' | 'leave'; readonly base: Base; readonly path: string }
  | { readonly do: 'close'; readonly base: Base }

const MAX_BASES = 512
const OPEN_DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW

/**
 * Visits `root` itself, too. Paths of `longPath` bytes and more are cut by starting anew from an open directory.
 * Throws what the visitor throws; EMFILE when the tree is deeper than about a million bytes.
 */
export const walkTree = (root: string, visitor: TreeVisitor, longPath = 2048): void => {
  const walk = new Walk(visitor, longPath)
  try {
    walk.run(root)
  } finally {
    walk.end()
  }
}

class Walk {
  readonly #visitor: TreeVisitor
  readonly #longPath: number
  readonly #bases = new Set<Base>()
  readonly #steps: Step[] = []

  constructor(visitor: TreeVisitor, longPath: number) {
    this.#visitor = visitor
    this.#longPath = longPath
  }

  run(root: string): void {
    const top = this.#newBase('.')
    this.#steps.push({ do: 'enter', base: top, path: root })
    let current = top
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      if (step.do === 'close') {
        this.#close(step.base)
        continue
      }
      if (step.base !== current) changeDirectory(step.base.fd)
      current = step.base
      if (step.do === 'enter') current = this.#enter(step.base, step.path)
      else this.#visitor.leave?.(step.path)
    }
    changeDirectory(top.fd)
  }

  end(): void {
    for (const base of this.#bases) this.#close(base)
  }

  /** Returns the base that the working directory is at afterwards. */
  #enter(base: Base, path: string): Base {
    this.#visitor.enter?.(path)
    this.#steps.push({ do: 'leave', base, path })
    if (path.length < this.#longPath) {
      this.#pushChildren(base, path)
      return base
    }
    const deeper = this.#newBase(path)
    this.#steps.push({ do: 'close', base: deeper })
    changeDirectory(deeper.fd)
    this.#pushChildren(deeper, '.')
    return deeper
  }

  #pushChildren(base: Base, path: string): void {
    const directory = opendirSync(toBytes(path), { encoding: 'latin1', bufferSize: 512 })
    try {
      for (let entry = directory.readSync(); entry !== null; entry = directory.readSync())
        this.#child(base, path, entry)
    } finally {
      directory.closeSync()
    }
  }

  #child(base: Base, path: string, entry: Dirent): void {
    this.#visitor.checkpoint?.()
    const child = path === '.' ? entry.name : `${path}/${entry.name}`
    if (entry.isDirectory()) this.#steps.push({ do: 'enter', base, path: child })
    else this.#visitor.leaf(child)
  }

  #newBase(path: string): Base {
    if (this.#bases.size >= MAX_BASES) throw Object.assign(new Error('Tree is too deep to walk'), { code: 'EMFILE' })
    const base = { fd: openSync(toBytes(path), OPEN_DIRECTORY) }
    this.#bases.add(base)
    return base
  }

  #close(base: Base): void {
    if (this.#bases.delete(base)) closeSync(base.fd)
  }
}
