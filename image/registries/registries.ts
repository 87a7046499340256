/**
 * The registry configuration of a running daemon: read again when its files change, the last good state kept when they
 * are broken. A configuration that never was good lets nothing through, since it may hold what blocks a registry.
 */

import { statSync } from 'node:fs'
import { isErrno } from '#linux/errno.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { ImageReference } from '../reference.ts'
import { type HostsToml, readHostsToml } from './hosts-toml.ts'
import { planRoute } from './plan-route.ts'
import { confFiles, EMPTY_CONF, type RegistriesConf, readRegistriesConf } from './registries-conf.ts'
import type { Route } from './route.ts'
import { type Candidates, candidatesOf } from './short-names.ts'

export interface RegistriesInput {
  /** registries.conf; drop-ins lie in `<file>.d`. May be absent. */
  readonly confFile: string
  /** certs.d directories, the first one first. May be absent. */
  readonly certsDirs: readonly string[]
  /** "host:port" or "host"; read at each use, its content may change. */
  readonly insecureRegistries: readonly string[]
  readonly log: Log
}

/** What operators see in the status. */
export interface RegistriesState {
  /** The files of registries.conf that are in effect. */
  readonly files: readonly string[]
  /** What is wrong now; in its place the state before is in effect. */
  readonly problems: readonly string[]
  readonly warnings: readonly string[]
}

interface Read<T> {
  /** Changes when the files do. */
  readonly stamp: string
  readonly good: T | undefined
  readonly problem: RuntimeError | undefined
}

export class Registries {
  readonly #input: RegistriesInput
  #conf: Read<RegistriesConf>
  readonly #hosts = new Map<string, Read<HostsToml>>()

  constructor(input: RegistriesInput) {
    this.#input = input
    this.#conf = this.#read(input.confFile, undefined, readRegistriesConf, confFilesOrNone(input.confFile))
  }

  /**
   * Where this reference is fetched, by the files as they are now.
   * @throws RuntimeError permission-denied when blocked, failed-precondition when the configuration never was good
   */
  route(reference: ImageReference): Route {
    const { certsDirs, insecureRegistries } = this.#input
    const readHosts = (dir: string): HostsToml => this.#hostsToml(dir)
    return planRoute({ conf: this.conf(), certsDirs, insecureRegistries, readHosts }, reference)
  }

  /**
   * What a name that somebody wrote can mean, by the files as they are now.
   * @throws RuntimeError invalid-argument when it is no image name, or ambiguous
   */
  candidates(text: string): Candidates {
    return candidatesOf(this.conf(), text)
  }

  /** The same from memory, for readers who must not wait; empty for text that is no image name, or ambiguous. */
  knownCandidates(text: string): readonly ImageReference[] {
    try {
      return candidatesOf(this.#conf.good ?? EMPTY_CONF, text).references
    } catch {
      return []
    }
  }

  /** registries.conf as it is now. @throws RuntimeError failed-precondition when it never was good */
  conf(): RegistriesConf {
    this.refresh()
    const { good, problem } = this.#conf
    if (good === undefined) throw problem ?? new RuntimeError('internal', 'registries.conf was not read')
    return good
  }

  /** Looks whether registries.conf has changed. Cheap; called before each pull and from time to time. */
  refresh(): void {
    const { confFile } = this.#input
    this.#conf = this.#read(confFile, this.#conf, readRegistriesConf, confFilesOrNone(confFile))
  }

  state(): RegistriesState {
    const read = [this.#conf, ...this.#hosts.values()]
    return {
      files: this.#conf.good?.files ?? [],
      problems: read.flatMap(({ problem }) => (problem ? [problem.message] : [])),
      warnings: read.flatMap(({ good }) => good?.warnings ?? []),
    }
  }

  #hostsToml(dir: string): HostsToml {
    const read = this.#read(dir, this.#hosts.get(dir), readHostsToml, [`${dir}/hosts.toml`])
    this.#hosts.set(dir, read)
    if (read.good === undefined) throw read.problem ?? new RuntimeError('internal', 'hosts.toml was not read')
    return read.good
  }

  #read<T extends { readonly warnings: readonly string[] }>(
    what: string,
    before: Read<T> | undefined,
    read: (what: string) => T,
    files: readonly string[],
  ): Read<T> {
    const stamp = files.map(stampOf).join(' ')
    if (stamp === before?.stamp) return before
    const { log } = this.#input
    try {
      const good = read(what)
      if (before) log.info('Registry configuration has changed', { files })
      for (const warning of good.warnings) log.warn('Registry configuration', { warning })
      return { stamp, good, problem: undefined }
    } catch (error) {
      const problem =
        error instanceof RuntimeError
          ? error
          : new RuntimeError('failed-precondition', `"${what}" cannot be read: ${messageOf(error)}`, { cause: error })
      log.error('Registry configuration is broken; what was good before stays in effect', { problem: problem.message })
      return { stamp, good: before?.good, problem }
    }
  }
}

const confFilesOrNone = (file: string): string[] => {
  try {
    return confFiles(file)
  } catch {
    // The reader says what is wrong.
    return [`${file}.d`]
  }
}

const stampOf = (file: string): string => {
  try {
    const { dev, ino, size, mtimeMs, ctimeMs } = statSync(file)
    return `${file} ${dev}:${ino} ${size} ${mtimeMs} ${ctimeMs}`
  } catch (error) {
    return `${file} ${isErrno(error, 'ENOENT') ? 'absent' : 'unreadable'}`
  }
}
