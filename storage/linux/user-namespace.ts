/**
 * User namespaces, and namespaces that belong to one. A process with threads cannot enter a new user namespace, so a child
 * is born in it, which does nothing: its namespaces are taken from it by name, and it is gone before the tick ends.
 */
import { constants, openSync, writeFileSync } from 'node:fs'
import { CLONE, inNamespaces, type NamespaceKind, pin, type ThreadNamespace, unpinNamespace } from './namespaces.ts'
import { clonePaused, rawSys, sys } from './sys.ts'

/** So many ids, from 0 in the namespace and from `hostId` on the host. */
export interface IdRange {
  readonly hostId: number
  readonly size: number
}

export interface IdMap {
  readonly uids: IdRange
  readonly gids: IdRange
}

const SIGKILL = 9
const P_PID = 1
const WEXITED = 4
const WALL = 0x40000000

const PR_GET_DUMPABLE = 3
const PR_SET_DUMPABLE = 4
/** The other values cannot be set by hand. */
const DUMPABLE = 1

/**
 * As a caller whose files belong to the root of the map: the kernel gives him the queues of a new IPC namespace, and with anybody
 * else's a runtime in there could not label /dev/mqueue.
 */
const asOwner = <T>({ uids, gids }: IdMap, work: () => T): T => {
  // Both calls return the id of before, and the kernel takes another for a reason not to be dumped any more.
  const dumpable = sys('prctl', PR_GET_DUMPABLE, 0, 0, 0, 0)
  const [uid, gid] = [rawSys('setfsuid', uids.hostId), rawSys('setfsgid', gids.hostId)]
  try {
    return work()
  } finally {
    rawSys('setfsgid', gid)
    rawSys('setfsuid', uid)
    if (dumpable === DUMPABLE) sys('prctl', PR_SET_DUMPABLE, dumpable, 0, 0, 0)
  }
}

/** Runs `use` with the pid of a process in new namespaces of these kinds, whose user namespace has this map. */
const withChild = <T>(kinds: readonly NamespaceKind[], map: IdMap, use: (pid: number) => T): T => {
  const flags = kinds.reduce<number>((all, kind) => all | CLONE[kind], CLONE.user)
  const pid = asOwner(map, () => clonePaused(flags))
  try {
    writeFileSync(`/proc/${pid}/uid_map`, `0 ${map.uids.hostId} ${map.uids.size}\n`)
    writeFileSync(`/proc/${pid}/gid_map`, `0 ${map.gids.hostId} ${map.gids.size}\n`)
    return use(pid)
  } finally {
    rawSys('kill', pid, SIGKILL)
    sys('waitid', P_PID, pid, Buffer.alloc(128), WEXITED | WALL, null)
  }
}

/** A descriptor of a new user namespace, which exists as long as somebody holds it. */
export const openUserNamespace = (map: IdMap): number =>
  withChild([], map, (pid) => openSync(`/proc/${pid}/ns/user`, constants.O_RDONLY))

export interface OwnedNamespaces<K extends ThreadNamespace = ThreadNamespace> {
  readonly map: IdMap
  readonly kinds: readonly K[]
  /** Where each one is pinned: a file that must not exist yet, in a directory that does. */
  readonly pins: Record<K | 'user', string>
  /** Runs inside the new namespaces (with the rights of the host's root), once they are pinned. Synchronous. */
  readonly inside?: () => void
}

/**
 * Makes and pins a user namespace and others that belong to it: its root may then administer them. On failure nothing
 * stays behind.
 */
export const createOwnedNamespaces = <K extends ThreadNamespace>(request: OwnedNamespaces<K>): void => {
  const { map, kinds, pins, inside } = request
  const pinned: string[] = []
  try {
    withChild(kinds, map, (pid) => {
      for (const kind of [...kinds, 'user'] as const) {
        pin(`/proc/${pid}/ns/${kind}`, pins[kind])
        pinned.push(pins[kind])
      }
    })
    if (inside && kinds.length > 0) {
      const entered: Partial<Record<ThreadNamespace, string>> = {}
      for (const kind of kinds) entered[kind] = pins[kind]
      inNamespaces(entered, inside)
    }
  } catch (error) {
    for (const path of pinned) unpinNamespace(path)
    throw error
  }
}
