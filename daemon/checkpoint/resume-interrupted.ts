/** After a restart: containers that an earlier daemon froze to checkpoint them run on, and its unfinished files go. */
import { readdirSync, readFileSync } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import type { Container } from '../container/container.ts'
import { ContainerId } from '../ids.ts'
import type { Parts } from '../parts.ts'
import { thaw } from './while-frozen.ts'

export type ResumeNeeds = Pick<Parts, 'containers' | 'linux' | 'log' | 'paths'>

/** CRIU, should it be left, leaves the container as it found it, which is frozen: whoever thaws only once may be too early. */
const AGAIN_MS = 1_000
const WATCHED_MS = 120_000

/** @returns how many there were */
export async function resumeInterrupted(needs: ResumeNeeds): Promise<number> {
  const names = await readdir(needs.paths.checkpoints)
  let found = 0
  for (const name of names) {
    const id = ContainerId.safeParse(name).data
    const container = id && needs.containers.get(id)
    if (container && isAwaited(container)) continue
    killRuntimeOf(needs, join(needs.paths.checkpoints, name))
    if (container?.status.state === 'running') resume(needs, container)
    await rm(join(needs.paths.checkpoints, name), { recursive: true, force: true })
    found++
  }
  return found
}

/** Its files are those that it is yet to be made from. */
const isAwaited = ({ record, status }: Container): boolean => record.restored === true && status.state === 'created'

function resume(needs: ResumeNeeds, container: Container): void {
  const { record } = container
  const until = performance.now() + WATCHED_MS
  const look = () => {
    if (thaw(needs, record))
      needs.log.warn('Thawed a container whose checkpoint was cut short', { container: record.id })
    if (performance.now() > until || container.status.state !== 'running') clearInterval(timer)
  }
  const timer = setInterval(look, AGAIN_MS).unref()
  look()
}

/** The OCI runtime does not end with the daemon that started it, nor does CRIU. It is known by the directory that it was given. */
function killRuntimeOf({ log }: ResumeNeeds, dir: string): void {
  for (const name of readdirSync('/proc')) {
    const pid = /^\d+$/.test(name) ? Number(name) : 0
    if (pid <= 1 || !commandLine(pid).includes(dir)) continue
    log.warn('Ending a checkpoint that an earlier daemon began', { pid, dir })
    try {
      // It leads a group of its own, which CRIU belongs to.
      process.kill(-pid, 'SIGKILL')
    } catch (error) {
      if (!isErrno(error, 'ESRCH')) throw error
    }
  }
}

function commandLine(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
  } catch {
    return []
  }
}
