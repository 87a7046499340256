/**
 * Who the container's process runs as: the request's user wins over the image's USER; names are looked up in the
 * image's own account files. A text of digits is an id and never a name (CVE-2026-46680), and the primary group is
 * always among the supplementary ones (CVE-2022-2995).
 */
import { type LinuxContainerSecurityContext, SupplementalGroupsPolicy } from '#proto/generated/api.ts'
import { type Account, findAccount, findGroup, groups, MAX_ID, parseId } from './accounts.ts'
import { boundedNumber, hasControlCharacters, impossible, invalid, quoted } from './refuse.ts'

export interface UserInput {
  readonly security: LinuxContainerSecurityContext | undefined
  /** USER of the image: "", "uid", "name", each with an optional ":group". */
  readonly imageUser: string
  /** The text of /etc/passwd in the rootfs; absent when there is none. */
  readonly passwd?: string | undefined
  readonly group?: string | undefined
}

export interface ContainerUser {
  readonly uid: number
  readonly gid: number
  /** The primary group first, each once. */
  readonly supplementalGroups: readonly number[]
  /** The account's home directory; "/" when the account has none that is usable. */
  readonly home: string
}

/** @throws RuntimeError invalid-argument for the request's values, failed-precondition for the image's. */
export const containerUser = (input: UserInput): ContainerUser => {
  const { uid, account, imageGroup } = primaryUser(input)
  const gid = primaryGroup(input, account, imageGroup)
  return { uid, gid, supplementalGroups: supplementalGroups(input, gid, account), home: homeOf(account) }
}

interface PrimaryUser {
  readonly uid: number
  readonly account: Account | undefined
  /** The part after ":" of the image's USER; only when that is where the user came from. */
  readonly imageGroup?: string
}

const primaryUser = (input: UserInput): PrimaryUser => {
  const { security, passwd = '' } = input
  if (security?.runAsUser && security.runAsUsername !== '') {
    throw invalid('security_context has both run_as_user and run_as_username')
  }
  if (security?.runAsUser) {
    const uid = boundedNumber('run_as_user', security.runAsUser.value, 0, MAX_ID)
    return { uid, account: findAccount(passwd, (account) => account.uid === uid) }
  }
  if (security?.runAsUsername) return named(input, 'run_as_username', security.runAsUsername)
  if (input.imageUser === '') return named(input, 'user', '0')
  return imageUser(input)
}

const imageUser = (input: UserInput): PrimaryUser => {
  const [user = '', group, ...rest] = input.imageUser.split(':')
  if (user === '' || group === '' || rest.length > 0) {
    throw impossible(`Image has the user ${quoted(input.imageUser)}, which is not "user" or "user:group"`)
  }
  return { ...named(input, 'image user', user), ...(group !== undefined && { imageGroup: group }) }
}

const named = ({ passwd = '' }: UserInput, field: string, name: string): PrimaryUser => {
  if (hasControlCharacters(name)) throw invalid(`${field} ${quoted(name)} holds control characters`)
  if (/^[0-9]+$/.test(name)) {
    const uid = parseId(name)
    if (uid === undefined) throw impossible(`${field} ${quoted(name)} is greater than ${MAX_ID}`)
    return { uid, account: findAccount(passwd, (account) => account.uid === uid) }
  }
  const account = findAccount(passwd, (candidate) => candidate.name === name)
  if (!account) throw impossible(`${field} ${quoted(name)} is not in /etc/passwd of the image`)
  return { uid: account.uid, account }
}

const primaryGroup = (input: UserInput, account: Account | undefined, imageGroup: string | undefined): number => {
  const { security, group = '' } = input
  if (security?.runAsGroup) {
    // api.proto: run_as_group without a user is an error.
    if (!security.runAsUser && security.runAsUsername === '') {
      throw invalid('security_context has run_as_group without run_as_user or run_as_username')
    }
    return boundedNumber('run_as_group', security.runAsGroup.value, 0, MAX_ID)
  }
  if (imageGroup === undefined) return account?.gid ?? 0
  if (/^[0-9]+$/.test(imageGroup)) {
    const gid = parseId(imageGroup)
    if (gid === undefined) throw impossible(`Image group ${quoted(imageGroup)} is greater than ${MAX_ID}`)
    return gid
  }
  const found = findGroup(group, imageGroup)
  if (!found) throw impossible(`Image group ${quoted(imageGroup)} is not in /etc/group of the image`)
  return found.gid
}

const supplementalGroups = (input: UserInput, gid: number, account: Account | undefined): number[] => {
  const all = new Set([gid])
  for (const [index, value] of (input.security?.supplementalGroups ?? []).entries()) {
    all.add(boundedNumber(`supplemental_groups[${index}]`, value, 0, MAX_ID))
  }
  const policy = input.security?.supplementalGroupsPolicy ?? SupplementalGroupsPolicy.Merge
  if (policy === SupplementalGroupsPolicy.Merge && account) {
    for (const group of groups(input.group ?? '')) if (group.members.includes(account.name)) all.add(group.gid)
  }
  return [...all]
}

/** The home directory ends up in the environment, and from there in files: nothing odd gets through (CVE-2022-4318). */
const homeOf = (account: Account | undefined): string => {
  const home = account?.home ?? ''
  return home.startsWith('/') && !hasControlCharacters(home) ? home : '/'
}
