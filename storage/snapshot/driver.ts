/** How root file systems come to be from layers: by overlayfs, or by copying where there is none. */
import type { Usage } from '../tree/measure-tree.ts'
import type { Snapshot } from './snapshot.ts'

export type DriverName = 'overlay' | 'copy'

/** Paths of one root file system: its own directory (see `layout.ts`) and where it is to be seen. */
export interface Place {
  readonly directory: string
  readonly mountpoint: string
}

export interface Driver {
  readonly name: DriverName
  /** Whether it can show files with the owners that a user namespace has. */
  readonly mapsIds: boolean
  /** Options of its mounts, which stay those of a root file system as long as that is there. */
  optionsOf(snapshot: Pick<Snapshot, 'readonly'>): readonly string[]
  /** The names of the copies (see tree-copies.ts) that a snapshot stands on. */
  copiesOf(snapshot: Snapshot): string[]
  /**
   * Fills `directory`, which is empty, with what is the root file system's own, and says what the writable tree takes. When this fails, the directory is the caller's
   * to remove.
   * @throws RuntimeError failed-precondition for what this driver cannot show
   */
  make(directory: string, snapshot: Snapshot): Promise<Usage>
  /** Mounts at an empty directory; private, and nothing is mounted when this fails. */
  mount(place: Place, snapshot: Snapshot): Promise<void>
}
