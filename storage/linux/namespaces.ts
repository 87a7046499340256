/**
 * Namespaces kept alive by files instead of processes. unshare and setns act on the calling thread, so everything here happens in one
 * synchronous tick, and the thread is back where it was before anyone else runs on it.
 */
import { closeSync, constants, openSync, unlinkSync } from 'node:fs'
import { isErrno } from './errno.ts'
import { mount, unmount } from './mount.ts'
import { statfs } from './statfs.ts'
import { rawSys, sys, sysError, sysOn } from './sys.ts'

/** The flag of each kind for unshare, setns and clone. */
export const CLONE = {
  mnt: 0x00020000,
  cgroup: 0x02000000,
  uts: 0x04000000,
  ipc: 0x08000000,
  user: 0x10000000,
  pid: 0x20000000,
  net: 0x40000000,
} as const

/** Every kind; the ones a thread of a running program can enter and leave again are `ThreadNamespace`. */
export type NamespaceKind = keyof typeof CLONE
export type ThreadNamespace = 'net' | 'ipc' | 'uts'

const NSFS_MAGIC = 0x6e736673

export interface NamespaceRequest<K extends ThreadNamespace = ThreadNamespace> {
  kinds: readonly K[]
  /** Where each one is pinned: a file that must not exist yet, in a directory that does. */
  pins: Record<K, string>
  /**
   * Runs inside the new namespaces, before they are pinned. Must not start anything asynchronous: a thread that Node starts
   * meanwhile would stay inside for good.
   */
  inside?: () => void
}

interface Home extends Disposable {
  /** Remembers that the thread is about to leave its namespace of this kind. */
  leaving(kind: ThreadNamespace): void
}

/**
 * The namespaces the thread is in now, and the way back. When there is no way back the process aborts: a daemon that goes on
 * inside a pod's namespaces would serve the host's requests there, and every thread and child it starts would be the pod's.
 */
const openHome = (kinds: readonly ThreadNamespace[]): Home => {
  const fds = new Map<ThreadNamespace, number>()
  const left = new Set<ThreadNamespace>()
  const closeAll = () => {
    for (const fd of fds.values()) closeSync(fd)
  }
  try {
    for (const kind of kinds) fds.set(kind, openSync(`/proc/thread-self/ns/${kind}`, constants.O_RDONLY))
  } catch (error) {
    closeAll()
    throw error
  }
  return {
    leaving: (kind) => void left.add(kind),
    [Symbol.dispose]: () => {
      for (const [kind, fd] of fds) {
        if (left.has(kind) && rawSys('setns', fd, CLONE[kind]) < 0) process.abort()
      }
      closeAll()
    },
  }
}

const createPinFile = (path: string): void => {
  closeSync(openSync(path, constants.O_RDONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600))
}

/** Binds a namespace to a new file, or leaves no file. */
export const pin = (source: string, path: string): void => {
  createPinFile(path)
  try {
    mount({ source, target: path, flags: ['bind'] })
  } catch (error) {
    unlinkSync(path)
    throw error
  }
}

const refusePromise = (result: unknown): void => {
  if (result instanceof Promise) throw new TypeError('what runs inside other namespaces must be synchronous')
}

/** Makes new namespaces and pins them. On failure nothing stays behind and the thread is where it was. */
export const createNamespaces = <K extends ThreadNamespace>({ kinds, pins, inside }: NamespaceRequest<K>): void => {
  if (kinds.length === 0) throw new TypeError('createNamespaces needs at least one kind')
  const pinned: string[] = []
  using home = openHome(kinds)
  try {
    for (const kind of kinds) home.leaving(kind)
    sys(
      'unshare',
      kinds.reduce((flags, kind) => flags | CLONE[kind], 0),
    )
    refusePromise(inside?.())
    for (const kind of kinds) {
      pin(`/proc/thread-self/ns/${kind}`, pins[kind])
      pinned.push(pins[kind])
    }
  } catch (error) {
    for (const path of pinned) unpinNamespace(path)
    throw error
  }
}

/** Runs `work`, which must be synchronous, inside pinned namespaces and returns what it returns. */
export const inNamespaces = <T>(pins: Partial<Record<ThreadNamespace, string>>, work: () => T): T => {
  const targets: { kind: ThreadNamespace; path: string; fd: number }[] = []
  try {
    for (const kind of ['net', 'ipc', 'uts'] as const) {
      const path = pins[kind]
      if (path !== undefined)
        targets.push({ kind, path, fd: openSync(path, constants.O_RDONLY | constants.O_NONBLOCK) })
    }
    using home = openHome(targets.map(({ kind }) => kind))
    for (const { kind, path, fd } of targets) {
      home.leaving(kind)
      sysOn(path, 'setns', fd, CLONE[kind])
    }
    const result = work()
    refusePromise(result)
    return result
  } finally {
    for (const { fd } of targets) closeSync(fd)
  }
}

/** Keeps a namespace of another process alive at `path`, a file that must not exist yet. Throws ENOENT when the process is gone. */
export const pinProcessNamespace = (pid: number, kind: NamespaceKind, path: string): void => {
  if (!Number.isInteger(pid) || pid <= 0) throw new TypeError(`pid "${pid}" is not a positive integer`)
  pin(`/proc/${pid}/ns/${kind}`, path)
}

/**
 * Lets go of a pinned namespace and removes the file. Idempotent. Always detaches: with a shared parent mount a plain unmount fails
 * as long as anyone uses a copy of the pin, and removing the file takes copies in other mount namespaces along.
 */
export const unpinNamespace = (path: string): void => {
  while (unmount(path, { detach: true }));
  try {
    unlinkSync(path)
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTDIR')) throw error
  }
}

/** Whether a namespace is pinned at this path. False when nothing is there. */
export const isPinned = (path: string): boolean => {
  try {
    return statfs(path).type === NSFS_MAGIC
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return false
    throw error
  }
}

/** Sets the host name of the calling thread's UTS namespace. */
export const setHostname = (name: string): void => {
  const result = rawSys('sethostname', name, Buffer.byteLength(name))
  if (result < 0) throw sysError(result, 'sethostname', name)
}
