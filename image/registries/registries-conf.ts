/**
 * containers-registries.conf, version 2: one file and its drop-ins become one value. Only what the text says; what it
 * means for a reference is in match-registry.ts and short-names.ts.
 */

import { readdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import * as z from 'zod'
import { isErrno } from '#linux/errno.ts'
import { badFile, readTomlFile } from './toml-file.ts'

const host = String.raw`(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?::\d{1,5})?`
const LOCATION = new RegExp(`^${host}(?:/[a-z0-9._/-]*[a-z0-9])?$`)
const PREFIX = new RegExp(String.raw`^(?:\*\.)?${host}(?:/[^\s]*[^\s/])?$`)

const location = () =>
  z
    .string()
    .transform((text) => text.replace(/\/+$/, ''))
    .refine((text) => text === '' || LOCATION.test(text), {
      error: 'must be "host[:port][/path]", without scheme',
    })

const pullFromMirror = z.enum(['all', 'digest-only', 'tag-only'])

const mirror = z.strictObject({
  location: location().refine((text) => text !== '', { error: 'must not be empty' }),
  insecure: z.boolean().default(false),
  'pull-from-mirror': pullFromMirror.optional(),
})

const registry = z
  .strictObject({
    prefix: z
      .string()
      .transform((text) => text.replace(/\/+$/, ''))
      .refine((text) => text === '' || PREFIX.test(text), {
        error: 'must be "host[:port][/path]" or "*.domain", without scheme',
      })
      .optional(),
    location: location().optional(),
    insecure: z.boolean().default(false),
    blocked: z.boolean().default(false),
    'mirror-by-digest-only': z.boolean().default(false),
    mirror: z.array(mirror).default([]),
  })
  .refine(({ prefix, location }) => prefix || location, { error: 'needs a "location" or a "prefix"' })
  .refine(({ prefix, location }) => location || prefix?.startsWith('*.'), {
    error: 'needs a "location": only a prefix "*.domain" may do without',
    path: ['location'],
  })
  .refine((entry) => !entry['mirror-by-digest-only'] || entry.mirror.every((each) => !each['pull-from-mirror']), {
    error: 'cannot go together with "pull-from-mirror" of a mirror',
    path: ['mirror-by-digest-only'],
  })

const ALIAS = /^[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:\/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*$/

const document = z.strictObject({
  'unqualified-search-registries': z.array(location()).optional(),
  'credential-helpers': z.array(z.string().regex(/^[A-Za-z0-9._-]+$/, { error: 'must be a plain name' })).optional(),
  'short-name-mode': z.enum(['enforcing', 'permissive', 'disabled', '']).optional(),
  'additional-layer-store-auth-helper': z.string().optional(),
  aliases: z
    .record(z.string().regex(ALIAS, { error: 'must be a name without registry and tag' }), location())
    .default({}),
  registry: z.array(registry).default([]),
  registries: z.undefined({ error: 'is the old format (version 1), which is not read: use [[registry]]' }).optional(),
})

export type ShortNameMode = 'enforcing' | 'permissive' | 'disabled'
export type PullFromMirror = z.infer<typeof pullFromMirror>

export interface ConfMirror {
  readonly location: string
  readonly insecure: boolean
  readonly pullFromMirror: PullFromMirror
}

/** One [[registry]] table. */
export interface ConfRegistry {
  /** "docker.io", "quay.io/team", "*.example.com". */
  readonly prefix: string
  /** What replaces the prefix; empty with a wildcard that rewrites nothing. */
  readonly location: string
  readonly insecure: boolean
  readonly blocked: boolean
  readonly mirrors: readonly ConfMirror[]
  /** The file that said so. */
  readonly file: string
}

export interface RegistriesConf {
  readonly registries: readonly ConfRegistry[]
  /** undefined: nobody said anything, which is not the same as an empty list. */
  readonly searchRegistries: readonly string[] | undefined
  readonly shortNameMode: ShortNameMode | undefined
  readonly credentialHelpers: readonly string[] | undefined
  /** From short name to registry and repository. */
  readonly aliases: ReadonlyMap<string, string>
  readonly files: readonly string[]
  readonly warnings: readonly string[]
}

export const EMPTY_CONF: RegistriesConf = {
  registries: [],
  searchRegistries: undefined,
  shortNameMode: undefined,
  credentialHelpers: undefined,
  aliases: new Map(),
  files: [],
  warnings: [],
}

/** The file itself, if it is there, then its drop-ins `<file>.d/*.conf` by name: the order in which later ones win. */
export const confFiles = (file: string): string[] => {
  const dir = `${file}.d`
  const dropIns = namesIn(dir).filter((name) => name.endsWith('.conf') && !name.startsWith('.'))
  const main = namesIn(join(file, '..')).includes(basename(file)) ? [file] : []
  return [...main, ...dropIns.sort().map((name) => join(dir, name))]
}

const namesIn = (dir: string): string[] => {
  try {
    return readdirSync(dir)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return []
    throw badFile(dir, 'cannot be listed', error)
  }
}

/** @throws RuntimeError failed-precondition naming file, key and value */
export const readRegistriesConf = (file: string): RegistriesConf =>
  confFiles(file).map(readOne).reduce(mergeConf, EMPTY_CONF)

const readOne = (file: string): RegistriesConf => {
  const { data, warnings } = readTomlFile(file, document)
  const duplicate = warnDuplicates(data.registry.map(({ prefix, location }) => prefix || location || ''))
  return {
    registries: data.registry.map((entry) => registryOf(entry, file)),
    searchRegistries: data['unqualified-search-registries'],
    shortNameMode: data['short-name-mode'] || undefined,
    credentialHelpers: data['credential-helpers'],
    aliases: new Map(Object.entries(data.aliases)),
    files: [file],
    warnings: [...warnings, ...duplicate.map((prefix) => `File "${file}": prefix "${prefix}" twice, the first counts`)],
  }
}

const registryOf = (entry: z.output<typeof registry>, file: string): ConfRegistry => {
  const { prefix, location = '', insecure, blocked, mirror: mirrors } = entry
  const byDigest = entry['mirror-by-digest-only'] ? 'digest-only' : 'all'
  return {
    prefix: prefix || location,
    location,
    insecure,
    blocked,
    mirrors: mirrors.map((each) => ({
      location: each.location,
      insecure: each.insecure,
      pullFromMirror: each['pull-from-mirror'] ?? byDigest,
    })),
    file,
  }
}

const warnDuplicates = (prefixes: readonly string[]): string[] => [
  ...new Set(prefixes.filter((prefix, index) => prefixes.indexOf(prefix) !== index)),
]

/** A drop-in replaces whole entries: a registry by its prefix, a list by its name; an empty alias takes one away. */
const mergeConf = (under: RegistriesConf, over: RegistriesConf): RegistriesConf => {
  const replaced = new Set(over.registries.map(({ prefix }) => prefix))
  const aliases = [...under.aliases, ...over.aliases].filter(
    ([name]) => over.aliases.get(name) !== '' && under.aliases.get(name) !== '',
  )
  return {
    registries: [...under.registries.filter(({ prefix }) => !replaced.has(prefix)), ...over.registries],
    searchRegistries: over.searchRegistries ?? under.searchRegistries,
    shortNameMode: over.shortNameMode ?? under.shortNameMode,
    credentialHelpers: over.credentialHelpers ?? under.credentialHelpers,
    aliases: new Map(aliases),
    files: [...under.files, ...over.files],
    warnings: [...under.warnings, ...over.warnings],
  }
}
