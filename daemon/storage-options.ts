/** The configuration as the storage wants it. */
import type { StorageOptions } from '#storage/storage.ts'
import type { Config } from './config/schema.ts'
import { rootPaths } from './paths.ts'

const MIB = 2 ** 20

export const storageOptions = ({
  image,
  storage,
}: Pick<Config, 'image' | 'storage'>): Pick<StorageOptions, 'additional' | 'containers' | 'snapshots' | 'writable'> => {
  const { driver, containersRoot, metacopy, redirectDir, volatile, copyForUserNamespaces } = storage
  const { writableMiB, writableInodes } = storage
  return {
    snapshots: { driver, copyForUserNamespaces, overlay: { metacopy, redirectDir, volatile } },
    writable: { bytes: writableMiB === undefined ? undefined : writableMiB * MIB, inodes: writableInodes },
    additional: image.additionalStores.map((dir) => rootPaths(dir).storage),
    ...(containersRoot !== undefined && { containers: containersRoot }),
  }
}
