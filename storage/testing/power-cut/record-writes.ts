/**
 * Writes down every change that this process makes below a directory, at the boundary to the system: the functions of
 * node:fs are replaced while a recording runs, so nothing that is tested knows of it. What workers make in trees is
 * written down when they are done, as if file by file. For tests.
 */
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { type Linux, linux as realLinux } from '#linux/linux.ts'
import { UnpackPool } from '../../tar/unpack-pool.ts'
import { WorkerPool } from '../../tar/worker-pool.ts'
import { Book } from './change-book.ts'
import type { Born, Change } from './disk-log.ts'

export interface Recording {
  readonly log: readonly Change[]
  readonly born: Born
  /** For what is tested: its syncfs is written down, and takes no time. */
  readonly linux: Linux
  /** Writes down that all was synced that had been done when the log was so long. */
  synced(before: number): void
  /** Writes down that a caller was told something. */
  told(what: string): void
  stop(): void
}

// biome-ignore lint/suspicious/noExplicitAny: functions of any kind are replaced by others of the same kind
type Any = any

/** Only one at a time. `root` has to exist and be empty. */
export const recordWrites = async (root: string): Promise<Recording> => {
  const book = new Book(root)
  const undo: (() => void)[] = []
  const patch = (target: Any, name: string, make: (original: Any) => Any): void => {
    const original = target[name]
    target[name] = make(original)
    undo.push(() => Reflect.set(target, name, original))
  }
  const probe = await fs.promises.open(root, 'r')
  const handles = Object.getPrototypeOf(probe)
  await probe.close()
  for (const [name, note] of Object.entries(noted(book))) {
    patch(fs.promises, name, (original) => async (...args: Any[]) => {
      const before = book.begin()
      const result = await original.apply(fs.promises, args)
      note(args, result, before)
      return result
    })
    patch(fs, `${name}Sync`, (original) => (...args: Any[]) => {
      const before = book.begin()
      const result = original.apply(fs, args)
      note(args, result, before)
      return result
    })
  }
  patch(fs, 'fsyncSync', (original) => (fd: number) => {
    original(fd)
    book.sync(fd, book.begin())
  })
  patch(fs, 'writeSync', (original) => (fd: number, bytes: Uint8Array, at: number, length: number) => {
    const count = original(fd, bytes, at, length)
    book.write(fd, bytes.subarray(at, at + count))
    return count
  })
  for (const [name, note] of Object.entries(notedHandles(book)))
    patch(
      handles,
      name,
      (original) =>
        async function (this: fs.promises.FileHandle, ...args: Any[]) {
          const before = book.begin()
          const result = await original.apply(this, args)
          note(this.fd, args, result, before)
          return result
        },
    )
  patch(
    WorkerPool.prototype,
    'run',
    (original) =>
      async function (this: WorkerPool, job: string, request: Any, signal: Any) {
        if (job === 'empty') book.emptied(request.directory)
        const result = await original.call(this, job, request, signal)
        if (job === 'fix-up') book.found(join(request.directory, request.target))
        return result
      },
  )
  patch(
    UnpackPool.prototype,
    'run',
    (original) =>
      async function (this: UnpackPool, task: Any, signal: Any) {
        const result = await original.call(this, task, signal)
        book.found(join(this.places.temp, task.directory))
        return result
      },
  )
  syncBuiltinESMExports()
  return {
    log: book.log,
    born: book.born,
    linux: { ...realLinux, syncfs: async () => book.sync('all', book.begin()) },
    synced: (before) => book.sync('all', before),
    told: (what) => book.add({ is: 'told', what }),
    stop: () => {
      for (const step of undo.reverse()) step()
      syncBuiltinESMExports()
    },
  }
}

type Note = (args: Any[], result: Any, before: number) => void

const noted = (book: Book): Record<string, Note> => ({
  open: ([path, flags], result) => book.open(path, flags, typeof result === 'number' ? result : result.fd),
  mkdir: ([path]) => book.make(path, { is: 'dir' }),
  rename: ([from, to]) => book.rename(from, to),
  link: ([from, to]) => book.link(from, to),
  unlink: ([path]) => book.unlink(path),
  rmdir: ([path]) => book.unlink(path),
  rm: ([path]) => book.removed(path),
  writeFile: ([path, data]) => book.wrote(path, data),
})

const notedHandles = (book: Book): Record<string, (fd: number, args: Any[], result: Any, before: number) => void> => ({
  sync: (fd, _args, _result, before) => book.sync(fd, before),
  truncate: (fd, [size = 0]) => book.truncate(fd, size),
  writeFile: (fd, [data]) => book.write(fd, Buffer.from(data)),
  write: (fd, [bytes, offset, , position], { bytesWritten }) =>
    book.write(fd, bytes.subarray(offset, offset + bytesWritten), position),
})
