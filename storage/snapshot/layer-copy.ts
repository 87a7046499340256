/** One layer copied on top of what is in the working directory already; see copy-trees.ts for who is where. */
import { chmodSync, lchownSync, linkSync, lstatSync, mkdirSync, readdirSync, type Stats, unlinkSync } from 'node:fs'
import { mknod } from '#linux/mknod.ts'
import { lgetXattr, llistXattr, lsetXattr } from '#linux/xattr.ts'
import { setTimes, timeOf } from '../tar/file-times.ts'
import { OPAQUE_XATTR } from '../tar/whiteout.ts'
import { isAllowedXattr } from '../tar/xattr-policy.ts'
import { toBytes } from '../tree/bytes.ts'
import { roomKeeper } from '../tree/keep-room.ts'
import { removeTree } from '../tree/remove-tree.ts'
import type { CopyRequest } from './copy-trees.ts'
import { makeLeaf } from './make-leaf.ts'
import { shiftCapabilities, shiftId } from './shift-owner.ts'

export type CopyHow = Pick<CopyRequest, 'form' | 'idMap' | 'label'>

/** Relative to the tree, "" for its root. One character per byte. */
type Place = string

type Step =
  | { readonly do: 'enter'; readonly place: Place }
  | { readonly do: 'leave'; readonly place: Place; readonly stat: Stats }

const SELINUX_XATTR = 'security.selinux'

export class LayerCopy {
  readonly #how: CopyHow
  readonly #checkpoint: () => void
  readonly #steps: Step[] = [{ do: 'enter', place: '' }]
  /** Where the first name of a file with several is in the copy. */
  readonly #linked = new Map<number, Place>()
  readonly #keepRoom = roomKeeper('.')

  constructor(how: CopyHow, checkpoint: () => void) {
    this.#how = how
    this.#checkpoint = checkpoint
  }

  run(): void {
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      if (step.do === 'enter') this.#enter(step.place)
      // Times last: whatever is made in a directory changes its own.
      else setTimes(target(step.place), timeOf(step.stat))
    }
  }

  #enter(place: Place): void {
    const stat = lstatSync(source(place))
    this.#steps.push({ do: 'leave', place, stat })
    this.#makeDirectory(place)
    this.#describe(place, stat)
    for (const entry of readdirSync(source(place), { encoding: 'latin1', withFileTypes: true })) {
      this.#count(0)
      const child = place === '' ? entry.name : `${place}/${entry.name}`
      if (entry.isDirectory()) this.#steps.push({ do: 'enter', place: child })
      else this.#leaf(child, lstatSync(source(child)))
    }
  }

  #makeDirectory(place: Place): void {
    const isOpaque = lgetXattr(source(place), OPAQUE_XATTR) !== undefined
    const there = lstatSync(target(place), { throwIfNoEntry: false })
    // Its root has been cut out of the stack already by whoever chose the layers.
    const replaces = there !== undefined && place !== '' && (isOpaque || !there.isDirectory())
    if (there !== undefined && replaces) clear(place, there)
    if (replaces || there === undefined) mkdirSync(target(place), 0o700)
    if (isOpaque && this.#how.form === 'overlay') lsetXattr(target(place), OPAQUE_XATTR, Buffer.from('y'))
  }

  #leaf(place: Place, stat: Stats): void {
    const there = lstatSync(target(place), { throwIfNoEntry: false })
    if (there !== undefined) clear(place, there)
    if (isWhiteout(stat)) {
      if (this.#how.form === 'overlay') mknod(target(place), { type: 'char', mode: 0 })
      return
    }
    const first = stat.nlink > 1 ? this.#linked.get(stat.ino) : undefined
    if (first !== undefined) {
      linkSync(target(first), target(place))
      return
    }
    if (stat.nlink > 1) this.#linked.set(stat.ino, place)
    makeLeaf(source(place), target(place), stat, (bytes) => this.#count(bytes))
    this.#describe(place, stat)
    setTimes(target(place), timeOf(stat))
  }

  /** The owner first: a change of it takes set-id bits and capabilities away. */
  #describe(place: Place, stat: Stats): void {
    const { idMap, label } = this.#how
    const copy = target(place)
    lchownSync(copy, shiftId(stat.uid, idMap?.uids), shiftId(stat.gid, idMap?.gids))
    if (!stat.isSymbolicLink()) chmodSync(copy, stat.mode & 0o7777)
    for (const name of llistXattr(source(place))) {
      const value = isAllowedXattr(name) ? lgetXattr(source(place), name) : undefined
      if (value !== undefined)
        lsetXattr(copy, name, name === 'security.capability' ? shiftCapabilities(value, idMap) : value)
    }
    if (label !== undefined) lsetXattr(copy, SELINUX_XATTR, Buffer.from(`${label}\0`))
  }

  #count(bytes: number): void {
    this.#checkpoint()
    this.#keepRoom(bytes)
  }
}

const source = (place: Place): Buffer => toBytes(`/${place}`)
const target = (place: Place): Buffer => toBytes(place === '' ? '.' : place)

const clear = (place: Place, there: Stats): void =>
  there.isDirectory() ? removeTree(place) : unlinkSync(target(place))

const isWhiteout = (stat: Stats): boolean => stat.isCharacterDevice() && Number(stat.rdev) === 0
