/**
 * Copies of layers, for hosts on which overlayfs or the kernel's id maps cannot do it: each layer with other owners, or a whole
 * stack applied one layer after the other. For the confined worker: the thread's root is the tree that is read, its working
 * directory the copy, so that neither names of 4094 bytes nor links lead anywhere else.
 */
import { closeSync, constants, openSync } from 'node:fs'
import type { IdMap } from '#linux/user-namespace.ts'
import { type Confinement, changeDirectory } from '../tar/confine.ts'
import { measureTree, type Usage } from '../tree/measure-tree.ts'
import { LayerCopy } from './layer-copy.ts'

export interface CopyRequest {
  /** Trees in overlayfs form, bottom first. Absolute paths on the host. */
  readonly trees: readonly string[]
  /** A directory that is empty. */
  readonly target: string
  /** `overlay` keeps what hides files of lower layers, `flat` applies it. */
  readonly form: 'overlay' | 'flat'
  /** Owners become these of the host. */
  readonly idMap?: IdMap | undefined
  /** An SELinux label for everything. */
  readonly label?: string | undefined
}

/** Returns what the copy takes. Throws resource-exhausted before the disk is quite full. */
export const copyTrees = async (
  confinement: Confinement,
  { trees, target, ...how }: CopyRequest,
  checkpoint: () => void,
): Promise<Usage> => {
  const fd = openSync(target, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
  try {
    for (const tree of trees) {
      await confinement.run(tree, () => {
        changeDirectory(fd)
        new LayerCopy(how, checkpoint).run()
      })
    }
  } finally {
    closeSync(fd)
  }
  return confinement.run(target, () => measureTree('.', checkpoint))
}
