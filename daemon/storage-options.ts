/** The configuration as the storage wants it. */
import type { StorageOptions } from '#storage/storage.ts'
import type { Config } from './config/schema.ts'

const MIB = 2 ** 20

export const storageOptions = ({
  storage,
}: Pick<Config, 'storage'>): Pick<StorageOptions, 'containers' | 'snapshots' | 'writable'> => {
  const { driver, containersRoot, metacopy, redirectDir, volatile, copyForUserNamespaces } = storage
  const { writableMiB, writableInodes } = storage
  return {
    snapshots: { driver, copyForUserNamespaces, overlay: { metacopy, redirectDir, volatile } },
    writable: { bytes: writableMiB === undefined ? undefined : writableMiB * MIB, inodes: writableInodes },
    ...(containersRoot !== undefined && { containers: containersRoot }),
  }
}
