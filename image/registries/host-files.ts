/**
 * What lies in the `certs.d` directories for a host: containerd's hosts.toml, or the certificates and keys of Docker's
 * older layout. Read anew for every pull, so there is nothing to reload.
 */

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import type { ClientPair, TlsFiles } from './route.ts'
import { badFile } from './toml-file.ts'

const HOSTS_TOML = 'hosts.toml'
const DEFAULT_DIR = '_default'

/**
 * The directory whose hosts.toml speaks for this host: one of its own in any root before any `_default`.
 * @param host as in image names: "docker.io", "registry.example:5000"
 */
export const hostsTomlDir = (roots: readonly string[], host: string): string | undefined => {
  const dirs = [...ownDirs(roots, host), ...roots.map((root) => join(root, DEFAULT_DIR))]
  return dirs.find((dir) => namesIn(dir).includes(HOSTS_TOML))
}

/**
 * `<host>/*.crt` are authorities, `*.cert` with `*.key` client pairs. A directory with a hosts.toml says everything in
 * there, its other files belong to servers that it names.
 * @throws RuntimeError failed-precondition when one half of a pair is missing
 */
export const hostTlsFiles = (roots: readonly string[], host: string): TlsFiles => {
  const dirs = ownDirs(roots, host).map((dir) => ({ dir, names: namesIn(dir) }))
  const old = dirs.filter(({ names }) => !names.includes(HOSTS_TOML))
  return {
    ca: old.flatMap(({ dir, names }) => names.filter(isAuthority).map((name) => join(dir, name))),
    clients: old.flatMap(({ dir, names }) => pairsOf(dir, names)),
    skipVerify: false,
  }
}

/** "registry.example_5000_" is how containerd writes a port, "registry.example:5000" how Docker does. */
const ownDirs = (roots: readonly string[], host: string): string[] => {
  const colon = /:(\d+)$/.exec(host)
  const names = colon ? [`${host.slice(0, colon.index)}_${colon[1]}_`, host] : [host]
  return roots.flatMap((root) => names.map((name) => join(root, name)))
}

const isAuthority = (name: string): boolean => name.endsWith('.crt')

const pairsOf = (dir: string, names: readonly string[]): ClientPair[] => {
  const stems = (suffix: string): string[] =>
    names.filter((name) => name.endsWith(suffix)).map((name) => name.slice(0, -suffix.length))
  const [certs, keys] = [stems('.cert'), stems('.key')]
  for (const stem of certs) if (!keys.includes(stem)) throw badFile(join(dir, `${stem}.cert`), 'has no key beside it')
  for (const stem of keys) {
    if (!certs.includes(stem)) throw badFile(join(dir, `${stem}.key`), 'has no certificate (.cert) beside it')
  }
  return certs.map((stem) => ({ cert: join(dir, `${stem}.cert`), key: join(dir, `${stem}.key`) }))
}

const namesIn = (dir: string): string[] => {
  try {
    return readdirSync(dir).sort()
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return []
    throw badFile(dir, 'cannot be listed', error)
  }
}
