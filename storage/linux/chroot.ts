/** Locks a worker thread into a directory, so that nothing an archive says can name a file outside. */
import { isMainThread } from 'node:worker_threads'
import { sys, sysOn } from './sys.ts'

const CLONE_FS = 0x200

/**
 * Makes `root` the root directory of the calling worker thread, for good; only synchronous file calls are inside, because the pool
 * threads that serve asynchronous ones are not. Load everything the worker needs before. Throws on the main thread.
 */
export const confineThread = (root: string): void => {
  if (isMainThread) throw new Error('only a worker thread may be confined')
  // Threads share one root directory until they say otherwise.
  sys('unshare', CLONE_FS)
  sysOn(root, 'chroot', root)
  sys('chdir', '/')
}
