/**
 * The signature policies of a running daemon: one for the node, and others for single namespaces. Read again when a file of
 * theirs changes; a policy that breaks keeps its last good state, and one that never was good lets nothing through.
 */

import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { SignatureSettings } from '../images-config.ts'
import { ACCEPT_ALL, type Policy } from './policy.ts'
import { readPolicy } from './read-policy.ts'

export interface PoliciesInput {
  /** containers-policy.json(5). Not set: `fallback`. */
  readonly file: string | undefined
  /** Counts if it is there; otherwise everything is accepted. */
  readonly fallback: string | undefined
  /** Holds `<namespace>.json`, each for the images of that namespace in place of `file`. */
  readonly namespaceDir: string | undefined
  readonly log: Log
}

/** Those that an operator has set. */
export const policiesOf = ({ policyFile, usualPolicyFile, policyDir }: SignatureSettings, log: Log): Policies =>
  new Policies({ file: policyFile, fallback: usualPolicyFile, namespaceDir: policyDir, log })

export interface ChosenPolicy {
  readonly policy: Policy
  /** Changes whenever the policy does. */
  readonly version: string
}

/** What Kubernetes allows for a namespace. Anything else could name a file elsewhere. */
const NAMESPACE = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/

interface Read {
  readonly stamp: string
  readonly good: Policy | undefined
  readonly problem: RuntimeError | undefined
}

export class Policies {
  readonly #input: PoliciesInput
  readonly #read = new Map<string, Read>()

  constructor(input: PoliciesInput) {
    this.#input = input
  }

  /**
   * The policy for images of this namespace, by the files as they are now.
   * @throws RuntimeError failed-precondition when there is one that never was good
   */
  for(namespace: string | undefined): ChosenPolicy {
    return this.#ofNamespace(namespace) ?? this.#ofNode()
  }

  /** Whether namespaces can differ. */
  get areNamespaced(): boolean {
    return this.#input.namespaceDir !== undefined
  }

  /** Reads all of them. @throws RuntimeError failed-precondition for the first that is broken, with file and field */
  check(): void {
    this.#ofNode()
    const { namespaceDir } = this.#input
    if (namespaceDir === undefined) return
    for (const name of namesIn(namespaceDir)) {
      if (name.endsWith('.json')) this.#ofNamespace(name.slice(0, -'.json'.length))
    }
    for (const { problem } of this.#read.values()) if (problem) throw problem
  }

  /** What is wrong now; in its place the state before is in effect. */
  problems(): string[] {
    return [...this.#read.values()].flatMap(({ problem }) => (problem ? [problem.message] : []))
  }

  #ofNode(): ChosenPolicy {
    const { file, fallback } = this.#input
    if (file !== undefined) return this.#load(file)
    const isFound = fallback !== undefined && isThere(fallback)
    return isFound ? this.#load(fallback) : { policy: ACCEPT_ALL, version: 'none' }
  }

  #ofNamespace(namespace: string | undefined): ChosenPolicy | undefined {
    const { namespaceDir } = this.#input
    if (namespaceDir === undefined || namespace === undefined || namespace === '') return undefined
    if (!NAMESPACE.test(namespace)) {
      throw new RuntimeError('invalid-argument', `${JSON.stringify(namespace.slice(0, 80))} is no name of a namespace`)
    }
    const file = join(namespaceDir, `${namespace}.json`)
    return isThere(file) ? this.#load(file) : undefined
  }

  #load(file: string): ChosenPolicy {
    const before = this.#read.get(file)
    const stamp = stampOf(before?.good?.files ?? [file])
    const read = before && stamp === before.stamp ? before : this.#reload(file, before)
    this.#read.set(file, read)
    if (read.good === undefined) throw read.problem ?? new RuntimeError('internal', `"${file}" was not read`)
    return { policy: read.good, version: `${file} ${read.stamp}` }
  }

  #reload(file: string, before: Read | undefined): Read {
    const { log } = this.#input
    try {
      const good = readPolicy(file)
      if (before) log.info('Signature policy has changed', { file })
      return { stamp: stampOf(good.files), good, problem: undefined }
    } catch (error) {
      const problem =
        error instanceof RuntimeError
          ? error
          : new RuntimeError('failed-precondition', `"${file}" cannot be read: ${messageOf(error)}`, { cause: error })
      log.error('Signature policy is broken; what was good before stays in effect', { problem: problem.message })
      const files = before?.good?.files ?? [file]
      return { stamp: stampOf(files), good: before?.good, problem }
    }
  }
}

const isThere = (file: string): boolean => statSync(file, { throwIfNoEntry: false }) !== undefined

const namesIn = (dir: string): string[] => {
  try {
    return readdirSync(dir).sort()
  } catch (cause) {
    if (isErrno(cause, 'ENOENT')) return []
    throw new RuntimeError('failed-precondition', `Signature policies in "${dir}" cannot be read`, { cause })
  }
}

/** Of all files that a policy was made from: a new key in an old place is another policy. */
const stampOf = (files: readonly string[]): string =>
  files
    .map((file) => {
      const found = statSync(file, { throwIfNoEntry: false })
      return found
        ? `${file}:${found.dev}:${found.ino}:${found.size}:${found.mtimeMs}:${found.ctimeMs}`
        : `${file}:absent`
    })
    .join(' ')
