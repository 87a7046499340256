/** Whom the container runs as, and the account files that are made for that user. */
import { accountFiles } from './account-files.ts'
import { configuredMount } from './configured-mounts.ts'
import type { UserFiles } from './rootfs-user.ts'
import type { Context } from './spec-context.ts'
import type { ContainerSpecInput } from './spec-input.ts'
import type { OciMount } from './types.ts'
import { type ContainerUser, containerUser } from './user.ts'
import { checkMapped } from './user-namespace.ts'

export const mappedUser = (input: ContainerSpecInput, { security, mappings }: Context): ContainerUser => {
  const { passwd, group } = input.rootfs
  const user = containerUser({ security, imageUser: input.image.user, passwd, group })
  if (mappings) {
    checkMapped('User', user.uid, mappings.uids)
    for (const gid of user.supplementalGroups) checkMapped('Group', gid, mappings.gids)
  }
  return user
}

export const generatedAccounts = (
  input: ContainerSpecInput,
  { uid, gid }: ContainerUser,
  env: readonly string[],
): UserFiles => {
  if (!input.accountFilePaths) return {}
  const home = env.findLast((entry) => entry.startsWith('HOME='))?.slice('HOME='.length) ?? '/'
  const homeIsRequested = input.container.envs.some(({ key }) => key === 'HOME')
  return accountFiles({ files: input.rootfs, uid, gid, home, homeIsRequested })
}

/** A mount of the request at the same place replaces it. */
export const accountMounts = (
  { accountFilePaths }: ContainerSpecInput,
  readonly: boolean,
  files: UserFiles,
): OciMount[] =>
  (['passwd', 'group'] as const).flatMap((name) =>
    accountFilePaths && files[name] !== undefined
      ? [configuredMount({ source: accountFilePaths[name], destination: `/etc/${name}`, readonly })]
      : [],
  )
