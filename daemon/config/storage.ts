/** The configuration of the storage: a section of the schema. docs/storage.md has what each key costs. */
import * as z from 'zod'
import { directory, section } from './fields.ts'

export const storage = section({
  driver: z
    .enum(['auto', 'overlay', 'copy'])
    .default('auto')
    .describe(
      'How root file systems are made of layers: by overlayfs, or by a whole copy of the image for each container. `auto`: overlayfs where it works.',
    ),
  containersRoot: directory()
    .optional()
    .describe(
      'Where containers write, when that shall be another file system than `root` (split image and container file systems). Not set: `storage` under `root`. To be changed only when there are no containers.',
    ),
  metacopy: z
    .boolean()
    .default(false)
    .describe('Overlayfs does not copy the data of a file of which only owner, mode or times change.'),
  redirectDir: z
    .boolean()
    .default(false)
    .describe('Overlayfs lets directories of the image be renamed without copying them.'),
  volatile: z
    .boolean()
    .default(false)
    .describe(
      'What containers write to their root file system is not synced, and not to be used after a crash of the node.',
    ),
  copyForUserNamespaces: z
    .boolean()
    .default(false)
    .describe(
      'Whether pods with a user namespace get copies of the layers, with their own owners, on a kernel or file system that cannot map owners. Not set: there are no such pods then.',
    ),
  writableMiB: z
    .int()
    .min(1)
    .max(1_073_741_824)
    .optional()
    .describe(
      'The most that one container may write to its root file system, in MiB. Needs a file system with project quotas. Not set: no limit.',
    ),
  writableInodes: z
    .int()
    .min(100)
    .max(4_000_000_000)
    .optional()
    .describe(
      'The most files and directories that one container may make there. Needs project quotas. Not set: no limit.',
    ),
}).describe('Images and the root file systems of containers on the disk.')
