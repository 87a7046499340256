/** Which volumes of a container get the container's label before it sees them, and that they get it. */
import type { ContainerConfig } from '#proto/generated/api.ts'
import type { MountSource } from '../oci/spec/host.ts'
import { UNCONFINED_TYPE } from '../oci/spec/selinux.ts'
import type { LabelTree } from './label-tree.ts'
import { checkRelabel } from './protected-trees.ts'
import { type Relabelling, relabel } from './relabel.ts'

export interface VolumeLabels {
  /** undefined on a host without SELinux: there is nothing to do then, and nothing that could go wrong. */
  readonly process: string | undefined
  readonly mount: string | undefined
  /** Whether a volume is taken as labelled when its top is. */
  readonly trustTop: boolean
  /** Directories of the daemon. */
  readonly own: readonly string[]
}

/**
 * Of the mounts that ask for it (CRI selinux_relabel); none for a container that SELinux does not confine.
 * @param sources of the mounts, links resolved, by their index
 * @throws RuntimeError invalid-argument for what belongs to the node
 */
export const treesToLabel = (
  { mounts }: Pick<ContainerConfig, 'mounts'>,
  sources: ReadonlyMap<number, MountSource>,
  { process, mount: label, trustTop, own }: VolumeLabels,
): LabelTree[] => {
  if (label === undefined || process?.split(':')[2] === UNCONFINED_TYPE) return []
  return mounts.flatMap(({ selinuxRelabel, image, hostPath }, index) => {
    if (!selinuxRelabel || image) return []
    const path = sources.get(index)?.path ?? hostPath
    checkRelabel(`mounts[${index}]`, path, own)
    return [{ path, label, trustTop }]
  })
}

/** @throws RuntimeError as `treesToLabel` and `relabel` */
export const relabelVolumes = (
  config: ContainerConfig,
  sources: ReadonlyMap<number, MountSource>,
  labels: VolumeLabels,
  options: Relabelling,
): Promise<void> => relabel(treesToLabel(config, sources, labels), options)
