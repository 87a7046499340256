/**
 * Project quotas of ext4 and xfs: files that are made in a directory belong to its project, and the file system counts, and limits,
 * what a project has. Through a descriptor of the file system (quotactl_fd, Linux 5.14), so no device has to be found.
 */
import { closeSync, constants, openSync } from 'node:fs'
import { rawSys, sysError } from './sys.ts'

const FS_IOC_FSGETXATTR = 0x801c581f
const FS_IOC_FSSETXATTR = 0x401c5820
const FS_XFLAG_PROJINHERIT = 0x200
const PROJECT = 2
const Q_GETQUOTA = 0x800007
const Q_SETQUOTA = 0x800008
const Q_XGETQSTAT = 0x5805
const PROJECT_ACCOUNTED = 1 << 4
const PROJECT_ENFORCED = 1 << 5
/** QIF_BLIMITS and QIF_ILIMITS: the hard and soft limits are the fields to take. */
const LIMITS = 1 | 4
const BLOCK = 1024

/** 0 or absent: no limit. */
export interface ProjectLimits {
  readonly bytes?: number | undefined
  readonly inodes?: number | undefined
}

/** What the file system does for the projects of a directory: nothing, count, or limit as well. Changes nothing. */
export const projectQuotaOf = (directory: string): 'none' | 'counts' | 'limits' => {
  // struct fs_quota_stat: version, a hole, flags.
  const state = Buffer.alloc(256)
  state.writeInt8(1, 0)
  if (quotactl(directory, Q_XGETQSTAT, 0, state) < 0) return 'none'
  const flags = state.readUInt16LE(2)
  if (flags & PROJECT_ENFORCED) return 'limits'
  return flags & PROJECT_ACCOUNTED ? 'counts' : 'none'
}

/** Puts a directory into a project, and all that will be made in it. Throws LinuxError naming the directory. */
export const setProject = (directory: string, project: number): void =>
  withDirectory(directory, (fd) => {
    // struct fsxattr: flags, extent size, extents, project, extent size of copies, padding.
    const attributes = Buffer.alloc(28)
    check(rawSys('ioctl', fd, FS_IOC_FSGETXATTR, attributes), 'ioctl', directory)
    attributes.writeUInt32LE((attributes.readUInt32LE(0) | FS_XFLAG_PROJINHERIT) >>> 0, 0)
    attributes.writeUInt32LE(project, 12)
    check(rawSys('ioctl', fd, FS_IOC_FSSETXATTR, attributes), 'ioctl', directory)
  })

/** Sets the limits of a project on the file system of this directory, bytes to the next KiB. Throws LinuxError. */
export const limitProject = (directory: string, project: number, { bytes = 0, inodes = 0 }: ProjectLimits): void => {
  const block = Buffer.alloc(72)
  block.writeBigUInt64LE(BigInt(Math.ceil(bytes / BLOCK)), 0)
  block.writeBigUInt64LE(BigInt(inodes), 24)
  block.writeUInt32LE(LIMITS, 64)
  check(quotactl(directory, Q_SETQUOTA, project, block), 'quotactl_fd', directory)
}

/** What a project has on the file system of this directory. Throws LinuxError. */
export const projectUsage = (directory: string, project: number): { bytes: number; inodes: number } => {
  const block = Buffer.alloc(72)
  const result = quotactl(directory, Q_GETQUOTA, project, block)
  // xfs says so of a project that it has never seen.
  if (result < 0 && sysError(result, 'quotactl_fd').code === 'ENOENT') return { bytes: 0, inodes: 0 }
  check(result, 'quotactl_fd', directory)
  return { bytes: Number(block.readBigUInt64LE(16)), inodes: Number(block.readBigUInt64LE(40)) }
}

const quotactl = (directory: string, command: number, project: number, data: Buffer): number =>
  withDirectory(directory, (fd) => rawSys('quotactl_fd', fd, ((command << 8) | PROJECT) >>> 0, project, data))

const withDirectory = <T>(directory: string, use: (fd: number) => T): T => {
  const fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    return use(fd)
  } finally {
    closeSync(fd)
  }
}

const check = (result: number, call: string, directory: string): void => {
  if (result < 0) throw sysError(result, call, directory)
}
