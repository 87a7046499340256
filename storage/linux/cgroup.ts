/**
 * Control groups by path ("/kubepods/pod1"), the same path in every hierarchy. Works on v1, v2 and hybrid hosts; the last argument of
 * each function is the host's layout unless a test gives its own.
 */
import { existsSync, mkdirSync, readdirSync, rmdirSync, statSync } from 'node:fs'
import { join, normalize } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type CgroupLayout, cgroupLayout } from './cgroup-layout.ts'
import { isErrno, LinuxError } from './errno.ts'
import { readKernelFile } from './read-bounded.ts'
import { writeKernelFile } from './write-kernel-file.ts'

export { type CgroupLayout, cgroupLayout } from './cgroup-layout.ts'

const MAX_FILE = 4 * 1024 * 1024
const REMOVE_ATTEMPTS = 10
const REMOVE_FIRST_DELAY_MS = 5
// Processes of one container are in all of these; the first that exists tells who they are.
const LISTING_ORDER = ['freezer', 'pids', 'memory', 'devices', 'cpu', 'name=systemd']

/** Most paths: taking one apart to find nothing wrong with it would cost more than reading the file. */
const NORMAL = /^(?:\/(?!\.{1,2}(?:\/|$))[^/\0]+)+$/

const checkedPath = (path: string): string => {
  if (NORMAL.test(path)) return path
  const good = path.startsWith('/') && !path.includes('\0') && !path.split('/').includes('..')
  if (!good) throw new LinuxError('EINVAL', 'cgroup', path, 'not an absolute path without ".."')
  return normalize(path)
}

/** The mount points of all hierarchies, each once. */
const hierarchies = ({ controllers, unified }: CgroupLayout): string[] => [
  ...new Set([...controllers.values(), ...(unified === undefined ? [] : [unified])]),
]

const directories = (path: string, layout: CgroupLayout): string[] => {
  const checked = checkedPath(path)
  return hierarchies(layout).map((root) => join(root, checked))
}

/** The directory of a cgroup in the hierarchy of a controller; undefined when the host does not have the controller. */
export const cgroupDirectory = (controller: string, path: string, layout = cgroupLayout()): string | undefined => {
  const root = layout.version === 2 ? layout.unified : layout.controllers.get(controller)
  const checked = checkedPath(path)
  if (root === undefined) return undefined
  return checked === '/' ? root : `${root}${checked}`
}

/** The directory by which the processes of a cgroup are counted. */
export const listingDirectory = (path: string, layout: CgroupLayout): string | undefined => {
  const checked = checkedPath(path)
  const roots = listingRoots.get(layout) ?? rootsInOrder(layout)
  listingRoots.set(layout, roots)
  const root = roots.find((each) => existsSync(`${each}${checked}/cgroup.procs`))
  return root === undefined ? undefined : join(root, checked)
}

const listingRoots = new WeakMap<CgroupLayout, readonly string[]>()

const rootsInOrder = (layout: CgroupLayout): string[] => {
  const v1 = LISTING_ORDER.flatMap((name) => layout.controllers.get(name) ?? [])
  return layout.version === 2 ? hierarchies(layout) : [...v1, ...hierarchies(layout)]
}

const subdirectories = (directory: string): string[] => {
  try {
    // Each has a link to its parent, so that one without any needs not be looked through.
    if (statSync(directory).nlink === 2) return []
    return readdirSync(directory, { withFileTypes: true }).flatMap((entry) =>
      entry.isDirectory() ? [join(directory, entry.name)] : [],
    )
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV')) return []
    throw error
  }
}

/** A directory and all below it, deepest last. */
export const withDescendants = (directory: string): string[] => {
  const found = [directory]
  for (const next of found) found.push(...subdirectories(next))
  return found
}

/** A v1 cpuset takes no process before it has CPUs and memory nodes; its parent's are the ones to start with. */
const inheritCpuset = (root: string, path: string): void => {
  let directory = root
  for (const part of path.split('/').filter((name) => name !== '')) {
    const parent = directory
    directory = join(directory, part)
    for (const file of ['cpuset.cpus', 'cpuset.mems']) {
      if (readKernelFile(join(directory, file))?.trim() === '') {
        writeKernelFile(join(directory, file), readKernelFile(join(parent, file))?.trim() ?? '')
      }
    }
  }
}

/** In v2 a cgroup has a controller only when every cgroup above has passed it on. */
const passControllersOn = (root: string, path: string): void => {
  let directory = root
  for (const part of path.split('/').filter((name) => name !== '')) {
    const available = (readKernelFile(join(directory, 'cgroup.controllers')) ?? '')
      .split(/\s+/)
      .filter((name) => name !== '')
    for (const name of available) {
      try {
        writeKernelFile(join(directory, 'cgroup.subtree_control'), `+${name}`)
      } catch (error) {
        // Controllers that cannot be passed on here (processes inside, threaded) are simply missing below.
        if (!isErrno(error, 'EBUSY', 'ENOENT', 'EOPNOTSUPP', 'EINVAL', 'ENODEV')) throw error
      }
    }
    directory = join(directory, part)
    mkdirSync(directory, { recursive: true })
  }
}

/** Creates a cgroup, and those above it, in every hierarchy. Nothing happens where it exists. */
export const createCgroup = (path: string, layout = cgroupLayout()): void => {
  const checked = checkedPath(path)
  for (const root of hierarchies(layout)) {
    // A hybrid host manages resources in v1; passing controllers on would only forbid processes in inner cgroups.
    if (layout.version === 2) passControllersOn(root, checked)
    else mkdirSync(join(root, checked), { recursive: true })
    if (root === layout.controllers.get('cpuset') && root !== layout.unified) inheritCpuset(root, checked)
  }
}

const removeDirectory = async (directory: string): Promise<void> => {
  for (let attempt = 1; existsSync(directory); attempt++) {
    try {
      for (const each of withDescendants(directory).reverse()) rmdirSync(each)
      return
    } catch (error) {
      // A process that has just ended holds its cgroup for a moment; somebody else may be removing the same.
      if (!isErrno(error, 'EBUSY', 'ENOENT', 'ENODEV') || attempt === REMOVE_ATTEMPTS) throw error
    }
    await delay(REMOVE_FIRST_DELAY_MS * 2 ** attempt)
  }
}

/** Removes a cgroup and those below it from every hierarchy. Idempotent. Throws EBUSY when processes stay in it for about 5 s. */
export const removeCgroup = async (path: string, layout = cgroupLayout()): Promise<void> => {
  if (checkedPath(path) === '/') throw new LinuxError('EINVAL', 'rmdir', path, 'the root cgroup stays')
  const results = await Promise.allSettled(directories(path, layout).map(removeDirectory))
  for (const result of results) if (result.status === 'rejected') throw result.reason
}

const pidsIn = (directory: string): number[] => {
  try {
    const text = readKernelFile(`${directory}/cgroup.procs`, MAX_FILE) ?? ''
    // 0 stands for a process of another PID namespace.
    return text.split('\n').flatMap((line) => (line === '' || line === '0' ? [] : [Number(line)]))
  } catch (error) {
    // A threaded v2 cgroup: its processes are listed by the domain above.
    if (isErrno(error, 'EOPNOTSUPP')) return []
    throw error
  }
}

/** The processes of a cgroup and of all below it. Empty when it does not exist. */
export const cgroupProcesses = (path: string, layout = cgroupLayout()): number[] => {
  const directory = listingDirectory(path, layout)
  return directory === undefined ? [] : [...new Set(withDescendants(directory).flatMap(pidsIn))]
}

/** The text of a cgroup file; undefined when the controller, the cgroup or the file does not exist. */
export const readCgroupFile = (
  controller: string,
  path: string,
  file: string,
  layout = cgroupLayout(),
): string | undefined => {
  const directory = cgroupDirectory(controller, path, layout)
  return directory === undefined ? undefined : readKernelFile(`${directory}/${file}`, MAX_FILE)
}

/** Writes a value to a cgroup file. Throws ENOENT when the controller, the cgroup or the file does not exist. */
export const writeCgroupFile = (
  controller: string,
  path: string,
  file: string,
  value: string,
  layout = cgroupLayout(),
): void => {
  const directory = cgroupDirectory(controller, path, layout)
  if (directory === undefined)
    throw new LinuxError('ENOENT', 'open', join(path, file), `the host lacks controller "${controller}"`)
  writeKernelFile(join(directory, file), value)
}

/** The files, one per hierarchy, that take the pids of processes that are to be in a cgroup. */
export const cgroupProcsFiles = (path: string, layout = cgroupLayout()): string[] =>
  directories(path, layout).map((directory) => join(directory, 'cgroup.procs'))

/** Moves a process into a cgroup, in every hierarchy. */
export const joinCgroup = (path: string, pid: number, layout = cgroupLayout()): void => {
  for (const file of cgroupProcsFiles(path, layout)) writeKernelFile(file, String(pid))
}

/** The cgroup a process is in, as the host sees it; undefined when the process is gone. */
export const containerCgroupPath = (pid: number, layout = cgroupLayout()): string | undefined => {
  const text = readKernelFile(`/proc/${pid}/cgroup`)
  if (text === undefined) return undefined
  const paths = new Map<string, string>()
  for (const line of text.split('\n')) {
    const [, names, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? []
    if (names === undefined || path === undefined) continue
    for (const name of names.split(',')) paths.set(name, path)
  }
  const order = layout.version === 2 ? [''] : [...LISTING_ORDER, '']
  return order.map((name) => paths.get(name)).find((path) => path !== undefined)
}

const oomKills = (text: string | undefined): number => Number(/^oom_kill (\d+)$/m.exec(text ?? '')?.[1] ?? 0)

/** How many processes of a cgroup, and of those below, the kernel has killed for want of memory. 0 when the cgroup is gone. */
export const oomKillCount = (path: string, layout = cgroupLayout()): number => {
  const directory = cgroupDirectory('memory', path, layout)
  if (directory === undefined) return 0
  // v2 counts the whole subtree itself.
  const inV2 = layout.controllers.get('memory') === layout.unified
  if (inV2) return oomKills(readKernelFile(join(directory, 'memory.events')))
  const counts = withDescendants(directory).map((each) => oomKills(readKernelFile(join(each, 'memory.oom_control'))))
  return counts.reduce((sum, count) => sum + count, 0)
}
