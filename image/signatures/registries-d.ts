/** containers-registries.d(5): where OpenPGP signatures of a registry's images lie, and whether it keeps sigstore's. Read for each pull that needs them. */

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse } from 'yaml'
import * as z from 'zod'
import { isErrno } from '#linux/errno.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import { canonical, type ImageReference, repositoryOf } from '../reference.ts'

export interface SignaturePlaces {
  /** Where "lookaside" signatures lie: file:, http: or https:. */
  readonly lookaside: URL | undefined
  /** Not said: looked for where the policy wants them. */
  readonly useAttachments: boolean
}

const DEFAULT_LOOKASIDE = 'file:///var/lib/containers/sigstore'
const MAX_FILE_BYTES = 1024 * 1024

const section = z.looseObject({
  lookaside: z.string().optional(),
  /** Its earlier name. */
  sigstore: z.string().optional(),
  'use-sigstore-attachments': z.boolean().optional(),
})

const fileFields = z.object({
  'default-docker': section.nullish(),
  docker: z.record(z.string(), section).nullish(),
})

type Section = z.infer<typeof section>

/** @throws RuntimeError failed-precondition when a file is broken, or two speak for the same */
export const signaturePlaces = (dir: string, reference: ImageReference): SignaturePlaces => {
  const sections = readSections(dir)
  const scope = scopes(reference).find((each) => sections.has(each))
  const found = scope === undefined ? undefined : sections.get(scope)
  if (found === undefined) return { lookaside: new URL(DEFAULT_LOOKASIDE), useAttachments: true }
  const written = found.lookaside ?? found.sigstore
  return {
    lookaside: written === undefined ? undefined : addressOf(dir, written),
    useAttachments: found['use-sigstore-attachments'] ?? true,
  }
}

const DEFAULT = ' default-docker'

/** Most precise first. */
const scopes = (reference: ImageReference): string[] => {
  const repository = repositoryOf(reference)
  const parts = repository.split('/')
  const parents = parts.map((_, index) => parts.slice(0, parts.length - index).join('/'))
  return [canonical(reference), ...parents, DEFAULT]
}

const addressOf = (dir: string, written: string): URL => {
  const url = URL.canParse(written) ? new URL(written) : undefined
  if (url && ['file:', 'http:', 'https:'].includes(url.protocol)) return url
  throw broken(dir, `lookaside ${JSON.stringify(written)} is no file:, http: or https: address`)
}

const readSections = (dir: string): Map<string, Section> => {
  const sections = new Map<string, Section>()
  for (const name of namesIn(dir)) {
    const { docker, 'default-docker': general } = readOne(join(dir, name))
    const all = [...Object.entries(docker ?? {}), ...(general ? [[DEFAULT, general] as const] : [])]
    for (const [scope, found] of all) {
      if (sections.has(scope)) throw broken(join(dir, name), `another file speaks for "${scope.trim()}" already`)
      sections.set(scope, found)
    }
  }
  return sections
}

const namesIn = (dir: string): string[] => {
  try {
    return readdirSync(dir)
      .filter((name) => name.endsWith('.yaml'))
      .sort()
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return []
    throw broken(dir, messageOf(error), error)
  }
}

const readOne = (path: string): z.infer<typeof fileFields> => {
  try {
    const bytes = readFileSync(path)
    if (bytes.length > MAX_FILE_BYTES) throw new Error(`is larger than ${MAX_FILE_BYTES} bytes`)
    return fileFields.parse(parse(bytes.toString('utf8')) ?? {})
  } catch (error) {
    throw broken(
      path,
      error instanceof z.ZodError ? 'has not the fields of containers-registries.d' : messageOf(error),
      error,
    )
  }
}

const broken = (path: string, why: string, cause?: unknown): RuntimeError =>
  new RuntimeError('failed-precondition', `Signature places in "${path}" are invalid: ${why}`, { cause })
