/**
 * What is never relabelled, whoever asks (CVE-2021-43816): a file of the node with a container's label is one that the
 * container may write, and one that the node's own services may no longer read.
 */
import { invalid, isWithin, quoted } from '../oci/spec/refuse.ts'

/** With everything below. */
const SYSTEM = ['/bin', '/boot', '/dev', '/etc', '/lib', '/lib32', '/lib64', '/proc', '/sbin', '/sys', '/usr']

/** Themselves: volumes lie below some of them. */
const SHARED = [
  '/',
  '/home',
  '/media',
  '/mnt',
  '/opt',
  '/root',
  '/run',
  '/srv',
  '/tmp',
  '/var',
  '/var/cache',
  '/var/lib',
  '/var/lib/kubelet',
  '/var/lib/kubelet/pods',
  '/var/log',
  '/var/run',
  '/var/spool',
  '/var/tmp',
]

/**
 * @param path absolute, its links resolved
 * @param own directories of the daemon; neither they nor what holds them
 * @throws RuntimeError invalid-argument
 */
export const checkRelabel = (field: string, path: string, own: readonly string[]): void => {
  const system = SYSTEM.find((tree) => isWithin(path, tree))
  const ours = own.find((tree) => isWithin(path, tree) || isWithin(tree, path))
  if (system === undefined && ours === undefined && !SHARED.includes(path)) return
  throw invalid(`${field}.selinux_relabel: ${quoted(path)} belongs to the node and is never relabelled`)
}
