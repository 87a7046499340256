/**
 * Names of images as people write them ("busybox", "host:5000/team/app:1.2", "app@sha256:…") and as we keep them: always
 * with a registry and, when there is no digest, with a tag. Pure; what a name leads to is the image store's business.
 * Grammar: the distribution project's reference format.
 */

import { RuntimeError } from '#proto/errors.ts'
import { type Digest, parseDigest } from '#storage/digest.ts'

/** A normalised image name. With a digest the tag is only decoration: the digest decides. */
export interface ImageReference {
  /** Registry, lower case, with port if one was written: "docker.io", "127.0.0.1:5000". */
  readonly domain: string
  /** Repository below the registry: "library/busybox". */
  readonly path: string
  readonly tag?: string
  readonly digest?: Digest
}

const MAX_NAME = 255
/** Name, colon, tag, at sign, the longest digest ("sha512:" and 128 digits). Longer text is refused unread. */
const MAX_TEXT = MAX_NAME + 1 + 128 + 1 + 135
const PATH_PART = /^[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*$/
const HOST = /^(?:\[[0-9a-f:.]{2,45}\]|[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*)$/
const TAG = /^\w[\w.-]{0,127}$/
const BARE_ID = /^[0-9a-f]{64}$/

/**
 * Reads an image name and fills in what people leave out: docker.io, library/, latest.
 * @throws RuntimeError invalid-argument when the text is not an image name
 */
export const parseReference = (text: string): ImageReference => {
  if (text.length === 0 || text.length > MAX_TEXT) {
    throw new RuntimeError('invalid-argument', `Image name has ${text.length} characters, allowed are 1 to ${MAX_TEXT}`)
  }
  const [nameAndTag = '', digestText, ...more] = text.split('@')
  if (more.length > 0) throw invalid(text, 'it has more than one "@"')
  const digest = digestText === undefined ? undefined : parseDigest(digestText)
  const { name, tag } = splitTag(nameAndTag)
  if (tag !== undefined && !TAG.test(tag))
    throw invalid(text, 'the tag has characters or a length that tags may not have')
  const { domain, path } = splitDomain(name, text)
  return {
    domain,
    path,
    ...(tag !== undefined && { tag }),
    ...(digest !== undefined && { digest }),
    ...(tag === undefined && digest === undefined && { tag: 'latest' }),
  }
}

/** Whether a name says no registry of its own: "busybox", "team/app:1", but not "localhost/app". */
export const isShortName = (text: string): boolean => {
  const [name = ''] = text.split('@', 1)
  const slash = name.indexOf('/')
  return slash < 0 || !isDomain(name.slice(0, slash))
}

/** "docker.io/library/busybox": registry and path. */
export const repositoryOf = (reference: ImageReference): string => `${reference.domain}/${reference.path}`

/** The one string that stands for this name: repository@digest if there is a digest, else repository:tag. */
export const canonical = (reference: ImageReference): string => {
  const repository = repositoryOf(reference)
  return reference.digest === undefined
    ? `${repository}:${reference.tag ?? 'latest'}`
    : `${repository}@${reference.digest}`
}

/** The short form people know: "busybox:latest" for docker.io/library/busybox:latest. */
export const familiar = (reference: ImageReference): string => {
  const text = canonical(reference)
  const hub = 'docker.io/'
  if (!text.startsWith(hub)) return text
  const onHub = text.slice(hub.length)
  const official = 'library/'
  return onHub.startsWith(official) && !onHub.slice(official.length).includes('/')
    ? onHub.slice(official.length)
    : onHub
}

const splitTag = (text: string): { name: string; tag?: string } => {
  const colon = text.lastIndexOf(':')
  if (colon <= text.lastIndexOf('/')) return { name: text }
  // "host:5000" alone is a name with tag 5000, as everywhere in the Docker world.
  return { name: text.slice(0, colon), tag: text.slice(colon + 1) }
}

const splitDomain = (name: string, text: string): { domain: string; path: string } => {
  const slash = name.indexOf('/')
  const first = slash < 0 ? '' : name.slice(0, slash)
  const hasDomain = slash > 0 && isDomain(first)
  const domain = hasDomain ? normalDomain(first, text) : 'docker.io'
  const written = hasDomain ? name.slice(slash + 1) : name
  if (!hasDomain && BARE_ID.test(written)) throw invalid(text, 'it looks like an image id')
  const path = domain === 'docker.io' && !written.includes('/') ? `library/${written}` : written
  if (`${domain}/${path}`.length > MAX_NAME) throw invalid(text, `the name is longer than ${MAX_NAME} characters`)
  if (!path.split('/').every((part) => PATH_PART.test(part))) {
    throw invalid(text, 'the repository has characters that repositories may not have')
  }
  return { domain, path }
}

/** The part before the first slash is a registry when it could be no repository, or is the one name without a dot. */
const isDomain = (first: string): boolean =>
  /[.:[]/.test(first) || first === 'localhost' || first !== first.toLowerCase()

const normalDomain = (written: string, text: string): string => {
  const domain = written.toLowerCase()
  const port = /:(\d+)$/.exec(domain)
  const host = port ? domain.slice(0, port.index) : domain
  if (!HOST.test(host)) throw invalid(text, 'the registry is not a host name or address')
  if (port && !isPort(port[1] ?? '')) throw invalid(text, 'the port of the registry is not between 1 and 65535')
  return domain === 'index.docker.io' ? 'docker.io' : domain
}

const isPort = (digits: string): boolean => digits.length <= 5 && Number(digits) >= 1 && Number(digits) <= 65535

const invalid = (text: string, why: string): RuntimeError =>
  new RuntimeError('invalid-argument', `${JSON.stringify(shown(text))} is not an image name: ${why}`)

/** Somebody may have written "user:password@registry/app"; a name with tag and digest looks nearly the same. */
const shown = (text: string): string => text.replace(/^[^/@]*:[^/@]*@(?!sha\d)/, '…@').slice(0, 120)
