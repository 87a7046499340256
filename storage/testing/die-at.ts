/**
 * Has a process die at the n-th change that it is about to make below a directory, or in the middle of a job of its workers: every
 * place in the code where a crash could matter, without one of them knowing of it. For tests.
 */
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { UnpackPool } from '../tar/unpack-pool.ts'
import { WorkerPool } from '../tar/worker-pool.ts'

/** "37": before the 37th change. "sync storage/layers#2": before the second one of that name. "unpack 5": 5 ms after a job of that name began. "": never. */
export type DeathPoint = string

const WITH_PATH = ['mkdir', 'rename', 'link', 'unlink', 'rmdir', 'rm', 'chmod']
const WITH_HANDLE = ['sync', 'truncate', 'write', 'writeFile', 'chmod']

// biome-ignore lint/suspicious/noExplicitAny: functions of any kind are replaced by others of the same kind
type Any = any

/** @returns the changes so far, each by a name such as "rename temp/layer-* layers/sha256-*" */
export const dieAt = async (root: string, point: DeathPoint): Promise<() => string[]> => {
  const die = (): void => void process.kill(process.pid, 'SIGKILL')
  const nth = /^\d+$/.test(point) ? Number(point) : undefined
  const [, named, which] = /^(.*)#(\d+)$/.exec(point) ?? []
  const changes: string[] = []
  const noted = (name: string, paths: unknown[]): void => {
    const change = [name.replace(/Sync$/, ''), ...paths.map((path) => placeOf(root, path))].join(' ')
    changes.push(change)
    if (changes.length === nth) die()
    if (change === named && changes.filter((other) => other === named).length === Number(which)) die()
  }
  const before = (target: Any, name: string, isOurs: (args: Any[]) => boolean): void => {
    const original = target[name]
    target[name] = function (this: Any, ...args: Any[]) {
      if (isOurs(args))
        noted(name, typeof this?.fd === 'number' ? [pathOfOpen(this.fd)] : args.filter((path) => isBelow([path])))
      return original.apply(this, args)
    }
  }
  const isBelow = ([path]: Any[]): boolean => String(path).startsWith(root)
  const creates = ([path, flags]: Any[]): boolean =>
    isBelow([path]) && (typeof flags === 'number' ? (flags & fs.constants.O_CREAT) !== 0 : /^[wa]/.test(flags ?? 'r'))
  before(fs.promises, 'open', creates)
  before(fs, 'openSync', creates)
  for (const name of WITH_PATH) {
    before(fs.promises, name, isBelow)
    before(fs, `${name}Sync`, isBelow)
  }
  const probe = await fs.promises.open(root, 'r')
  for (const name of WITH_HANDLE) before(Object.getPrototypeOf(probe), name, () => true)
  await probe.close()
  const [job, ms] = point.split(' ')
  const jobBegins = (name: string): false => {
    if (name === job) setTimeout(die, Number(ms))
    return false
  }
  before(WorkerPool.prototype, 'run', ([name]) => jobBegins(name))
  before(UnpackPool.prototype, 'run', () => jobBegins('unpack'))
  syncBuiltinESMExports()
  return () => changes
}

const pathOf = fs.readlinkSync

const pathOfOpen = (fd: number): string => pathOf(`/proc/self/fd/${fd}`)

/** Without what is another in each telling. */
const placeOf = (root: string, path: unknown): string =>
  String(path)
    .replace(`${root}/`, '')
    .replaceAll(/[0-9a-f]{12,}/g, '*')
    .replaceAll(/(?<=[/-])\d+/g, '*')
