/**
 * Locks the calling worker thread into a directory, so that no path of an image can name anything outside of it,
 * whatever links it goes through. Rules inside: only synchronous file calls (others run on pool threads, which are
 * outside), nothing loaded lazily, and the pool must have been born before (`startPool`), else it is born in here.
 */
import { constants, openSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { AT_FDCWD, pathArgument, sys, sysOn } from '#linux/sys.ts'

const CLONE_FS = 0x200
const OPEN_TREE_CLONE = 1
const OPEN_TREE_CLOEXEC = 0o2000000
const AT_RECURSIVE = 0x8000
const O_PATH = 0o10000000
const arm = process.arch === 'arm64'
const FCHDIR = arm ? 50 : 81
const UMASK = arm ? 166 : 95
const CLOSE = arm ? 57 : 3

/** Makes the thread pool exist. To be awaited on the main thread before the first worker confines itself. */
export const startPool = async (): Promise<void> => {
  await stat('/')
}

/** Moves the calling thread's working directory. */
export const changeDirectory = (fd: number): void => {
  sys(FCHDIR, fd)
}

/** One per worker thread, for good: the thread no longer shares its root, working directory and umask with the process. */
export class Confinement {
  readonly #hostRoot: number

  constructor() {
    this.#hostRoot = openSync('/', O_PATH | constants.O_DIRECTORY)
    sys('unshare', CLONE_FS)
    sys(UMASK, 0)
  }

  /**
   * Runs `inside` with `directory` (absolute, on the host) as root. What is mounted below it is not there: the thread
   * sees a detached copy of that one mount, so a leaked mount inside a tree is never entered; with `recursive` of all below it.
   */
  async run<T>(directory: string, inside: () => T | Promise<T>, recursive = false): Promise<T> {
    const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0)
    const tree = sysOn(directory, 'open_tree', AT_FDCWD, pathArgument(directory), flags)
    try {
      enter(tree)
    } finally {
      // Node keeps book of a worker's descriptors, to close them with it, and this one is not in there.
      sys(CLOSE, tree)
    }
    try {
      return await inside()
    } finally {
      enter(this.#hostRoot)
    }
  }
}

const enter = (directory: number): void => {
  changeDirectory(directory)
  sys('chroot', '.')
}
