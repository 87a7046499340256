/**
 * Volumes that an image declares: directories of the root file system, or (configuration key container.imageVolumes) empty
 * directories of the container's own on the disk, which end with it.
 */
import { chmod, chown, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { messageOf } from '#proto/errors.ts'
import type { ContainerConfig } from '#proto/generated/api.ts'
import { declaredVolumes } from '../oci/spec/image-volumes.ts'
import { impossible, quoted } from '../oci/spec/refuse.ts'
import type { OciMount } from '../oci/spec/types.ts'
import type { Parts } from '../parts.ts'
import type { ContainerPaths } from '../paths.ts'

type VolumeNeeds = Pick<Parts, 'config' | 'linux'>

export interface Declared {
  readonly volumes: readonly string[]
  readonly config: ContainerConfig
  readonly paths: ContainerPaths
  /** Whom new directories belong to: the container's root. */
  readonly owner: { readonly uid: number; readonly gid: number }
}

/** @throws RuntimeError failed-precondition for volumes that no image should have */
export async function makeDeclaredVolumes({ config, linux }: VolumeNeeds, declared: Declared): Promise<OciMount[]> {
  const mode = config.container.imageVolumes
  if (mode === 'ignore') return []
  const requested = declared.config.mounts.map(({ containerPath }) => containerPath)
  const mounts: OciMount[] = []
  for (const [index, path] of declaredVolumes(declared.volumes, requested).entries()) {
    const found = makeInRootfs(linux, declared, path)
    if (mode === 'bind') mounts.push(await makeOwn(join(declared.paths.ownVolumes, String(index)), path, found))
  }
  return mounts
}

type Attributes = ReturnType<Parts['linux']['makeDirectoriesInRoot']>

function makeInRootfs(linux: Parts['linux'], { paths, owner }: Declared, path: string): Attributes {
  try {
    return linux.makeDirectoriesInRoot(paths.rootfs, path, owner)
  } catch (cause) {
    throw impossible(`Cannot make the volume ${quoted(path)} of the image: ${messageOf(cause)}`, cause)
  }
}

/** Empty, and otherwise like the directory that it hides. */
async function makeOwn(source: string, destination: string, { mode, uid, gid }: Attributes): Promise<OciMount> {
  await mkdir(source, { recursive: true, mode: 0o711 })
  await chown(source, uid, gid)
  await chmod(source, mode)
  return { destination, type: 'bind', source, options: ['rbind', 'rw', 'rprivate'] }
}

/** Idempotent. */
export async function removeDeclaredVolumes(paths: ContainerPaths): Promise<void> {
  await rm(paths.ownVolumes, { recursive: true, force: true })
}
