/**
 * The processes that one command in a container has become: its tree, those of its session, and those that hold one of its streams
 * open. A daemon that left the tree, the session and the streams (a double fork, setsid, and its own files) is no part of it any more: it
 * lives with the container, as it would with any other runtime.
 */
import type { Linux } from '#linux/linux.ts'
import { killTrees } from '../../container/kill-tree.ts'

export interface SessionProcesses {
  /** The top of the tree: a child that nobody has waited for. undefined: none is left. */
  readonly root: number | undefined
  /** The command itself, which leads a session of its own. */
  readonly leader: number | undefined
  /** Where the container's processes are. */
  readonly cgroup: string
  /** Its streams, as /proc names them. */
  readonly streams: ReadonlySet<string>
}

/** A process that is killed goes within this many looks, or is stuck in the kernel. */
const ROUNDS = 16

/** Stop, then kill them; those that fork meanwhile, too. */
export function killSession(linux: Linux, session: SessionProcesses): void {
  const killed = new Set<number>()
  for (let round = 0; round < ROUNDS; round++) {
    const found = [session.root, ...strays(linux, session)].filter((pid) => pid !== undefined && !killed.has(pid))
    if (found.length === 0) return
    const roots = found.flatMap((pid) => (pid === undefined ? [] : (linux.processIdentity(pid) ?? [])))
    for (const { pid } of killTrees(linux, roots)) killed.add(pid)
    for (const pid of found) if (pid !== undefined) killed.add(pid)
  }
}

function strays(linux: Linux, { leader, cgroup, streams }: SessionProcesses): number[] {
  if (leader === undefined && streams.size === 0) return []
  return linux
    .cgroupProcesses(cgroup)
    .filter(
      (pid) =>
        (leader !== undefined && linux.sessionOf(pid) === leader) ||
        linux.openFilesOf(pid).some((name) => streams.has(name)),
    )
}
