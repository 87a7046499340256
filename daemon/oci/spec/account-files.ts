/**
 * /etc/passwd and /etc/group for a user that the image does not know: programs ask who they are and fail without an
 * answer. The image's file with one line more; every field of that line is checked, never pasted (CVE-2022-4318).
 */

import { findAccount, groups } from './accounts.ts'
import { hasControlCharacters, impossible, invalid, quoted } from './refuse.ts'
import type { UserFiles } from './rootfs-user.ts'

export interface AccountFilesInput {
  readonly files: UserFiles
  readonly uid: number
  readonly gid: number
  /** HOME of the container's environment. */
  readonly home: string
  /** Whether the request said so, and not the image. */
  readonly homeIsRequested: boolean
}

/**
 * The texts to show in the container instead of the image's; absent where the image's own will do.
 * @throws RuntimeError invalid-argument, failed-precondition for a home that would break out of its field
 */
export const accountFiles = ({ files, uid, gid, home, homeIsRequested }: AccountFilesInput): UserFiles => {
  const { passwd, group } = files
  const knowsUser = passwd === undefined || findAccount(passwd, (account) => account.uid === uid) !== undefined
  const knowsGroup = group === undefined || [...groups(group)].some((each) => each.gid === gid)
  if (!knowsUser && !isPlain(home)) {
    const refuse = homeIsRequested ? invalid : impossible
    throw refuse(`HOME ${quoted(home)} cannot stand in /etc/passwd, where the container's user needs a line`)
  }
  return {
    ...(!knowsUser && {
      passwd: withLine(passwd, [`${uid}`, 'x', `${uid}`, `${gid}`, 'container user', home, '/sbin/nologin']),
    }),
    ...(!knowsGroup && { group: withLine(group, [`${gid}`, 'x', `${gid}`, '']) }),
  }
}

/** Of all fields only the home is not a number or ours. */
const isPlain = (field: string): boolean => !field.includes(':') && !hasControlCharacters(field)

const withLine = (text: string, fields: readonly string[]): string =>
  `${text === '' || text.endsWith('\n') ? text : `${text}\n`}${fields.join(':')}\n`
