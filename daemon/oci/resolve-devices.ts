/** Looks up device nodes of this host: those that a request names, and all of them for privileged containers. */
import { lstatSync, readdirSync, realpathSync, type Stats, statSync } from 'node:fs'
import { join, posix } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import type { ContainerConfig } from '#proto/generated/api.ts'
import type { HostDevice, ResolvedDevice } from './spec/host.ts'
import { absolutePath, impossible, isWithin, quoted } from './spec/refuse.ts'

/** Terminals, shared memory and queues belong to the container itself; `fd` is a link to its own /proc. */
const NOT_DEVICES = new Set(['pts', 'shm', 'fd', 'mqueue', '.udev', 'console'])
const MAX_DEPTH = 8
const MAX_DEVICES = 10_000

/**
 * The devices of a request. A directory stands for every device below it; only /dev is searched, as any other tree may be
 * of any size, and the daemon waits for it.
 * @throws RuntimeError invalid-argument; failed-precondition for what does not exist or is no device
 */
export const resolveDevices = (requested: ContainerConfig['devices'], tree = '/dev'): ResolvedDevice[] =>
  requested.flatMap(({ hostPath, containerPath, permissions }, index) => {
    const from = absolutePath(`devices[${index}].host_path`, hostPath)
    const to = absolutePath(`devices[${index}].container_path`, containerPath || hostPath)
    return lookUp(from, tree).map((device) => ({
      device,
      containerPath: posix.join(to, posix.relative(from, device.path)),
      access: permissions,
    }))
  })

/** Every device node below /dev. */
export const hostDevices = (directory = '/dev'): HostDevice[] => below(directory, 0)

/** One device node. @throws RuntimeError failed-precondition */
export const hostDevice = (path: string): HostDevice => {
  const device = asDevice(path, statOrRefuse(path))
  if (!device) throw impossible(`${quoted(path)} is not a device node`)
  return device
}

const lookUp = (path: string, tree: string): HostDevice[] => {
  const stats = statOrRefuse(path)
  if (stats.isDirectory()) {
    const real = realpathSync(path)
    if (!isWithin(real, tree)) throw impossible(`${quoted(path)} is not a device node, nor a directory in ${tree}`)
    const found = below(real, 0).map((device) => ({
      ...device,
      path: posix.join(path, posix.relative(real, device.path)),
    }))
    if (found.length > 0) return found
  }
  const device = asDevice(path, stats)
  if (!device) throw impossible(`${quoted(path)} is not a device node`)
  return [device]
}

const statOrRefuse = (path: string): Stats => {
  try {
    return statSync(path)
  } catch (error) {
    throw impossible(`Cannot find the device ${quoted(path)} on this host`, error)
  }
}

const below = (directory: string, depth: number): HostDevice[] => {
  const found: HostDevice[] = []
  for (const name of depth > MAX_DEPTH ? [] : readdirSync(directory)) {
    if (depth === 0 && NOT_DEVICES.has(name)) continue
    const path = join(directory, name)
    const stats = lstatIfThere(path)
    if (stats?.isDirectory()) found.push(...below(path, depth + 1))
    const device = stats && asDevice(path, stats)
    if (device) found.push(device)
    if (found.length > MAX_DEVICES) throw impossible(`${quoted(directory)} holds more than ${MAX_DEVICES} devices`)
  }
  return found
}

/** Devices come and go while they are listed. */
const lstatIfThere = (path: string): Stats | undefined => {
  try {
    return lstatSync(path)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
}

const asDevice = (path: string, stats: Stats): HostDevice | undefined => {
  const type = stats.isCharacterDevice() ? 'c' : stats.isBlockDevice() ? 'b' : undefined
  if (type === undefined) return undefined
  return { path, type, ...deviceNumber(stats.rdev), mode: stats.mode & 0o777, uid: stats.uid, gid: stats.gid }
}

/** As glibc's gnu_dev_major and gnu_dev_minor take a device number apart; it may be wider than 32 bits. */
export const deviceNumber = (rdev: number): { major: number; minor: number } => {
  const number = BigInt(rdev)
  return {
    major: Number(((number >> 8n) & 0xfffn) | ((number >> 32n) & 0xfffff000n)),
    minor: Number((number & 0xffn) | ((number >> 12n) & 0xffffff00n)),
  }
}
