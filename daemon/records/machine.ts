/**
 * Whose records these are. A copy of a disk that had pods must not be taken for this machine's own: its addresses, names and
 * mounts are elsewhere. A disk that was prepared with images only, and has no pods, is anybody's.
 */
import { join } from 'node:path'
import type { Linux } from '#linux/linux.ts'
import { RuntimeError } from '#proto/errors.ts'

export interface Claim {
  readonly linux: Pick<Linux, 'readFileIfExists' | 'writeFileAtomic'>
  /** The directory that survives a reboot. */
  readonly root: string
  /** How many sandboxes and containers are on record in it. */
  readonly records: number
  /** For tests. */
  readonly machineIdFile?: string
}

/** @throws RuntimeError failed-precondition when there are records, and they are of another machine */
export async function claimRecords({ linux, root, records, machineIdFile = '/etc/machine-id' }: Claim): Promise<void> {
  const read = async (path: string) => (await linux.readFileIfExists(path, 4096))?.toString().trim() ?? ''
  const ours = await read(machineIdFile)
  // A machine without an identity of its own, such as a container.
  if (!/^[0-9a-f]{32}$/.test(ours)) return
  const path = join(root, 'machine-id')
  const theirs = await read(path)
  if (theirs === ours) return
  if (theirs !== '' && records > 0) {
    throw new RuntimeError(
      'failed-precondition',
      `The ${records} records of pods in "${root}" are of another machine ("${theirs}", this is "${ours}"): remove "${path}" to take them over, or start with another directory`,
    )
  }
  await linux.writeFileAtomic(path, `${ours}\n`, { mode: 0o644, durable: true })
}
