/**
 * Reads the text of an image's /etc/passwd and /etc/group. The text is hostile: lines that do not have the form are as
 * good as absent, and an id out of range is never wrapped into another one.
 */

/** The largest uid and gid: the kernel's signed view of ids, as Kubernetes bounds them. */
export const MAX_ID = 2_147_483_647

export interface Account {
  readonly name: string
  readonly uid: number
  readonly gid: number
  readonly home: string
}

export interface Group {
  readonly name: string
  readonly gid: number
  readonly members: readonly string[]
}

/** The id in a text of one to ten digits; undefined when it is none or out of range. */
export const parseId = (text: string | undefined): number | undefined => {
  if (text === undefined || !/^[0-9]{1,10}$/.test(text)) return undefined
  const id = Number(text)
  return id <= MAX_ID ? id : undefined
}

export function* accounts(passwd: string): Generator<Account> {
  for (const line of passwd.split('\n')) {
    const [name, , uidText, gidText, , home = ''] = line.split(':')
    const uid = parseId(uidText)
    const gid = parseId(gidText)
    if (name && uid !== undefined && gid !== undefined) yield { name, uid, gid, home }
  }
}

export function* groups(group: string): Generator<Group> {
  for (const line of group.split('\n')) {
    const [name, , gidText, members = ''] = line.split(':')
    const gid = parseId(gidText)
    if (name && gid !== undefined) yield { name, gid, members: members.split(',').map((member) => member.trim()) }
  }
}

/** The first account that matches, as getpwnam(3) and getpwuid(3) find it. */
export const findAccount = (passwd: string, matches: (account: Account) => boolean): Account | undefined => {
  for (const account of accounts(passwd)) if (matches(account)) return account
  return undefined
}

export const findGroup = (group: string, name: string): Group | undefined => {
  for (const candidate of groups(group)) if (candidate.name === name) return candidate
  return undefined
}
