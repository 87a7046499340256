/** What the container runs: arguments, working directory and environment, out of the request and the image. */
import { posix } from 'node:path'
import type { ContainerConfig, KeyValue } from '#proto/generated/api.ts'
import { hasControlCharacters, impossible, invalid, quoted } from './refuse.ts'

/** How an image wants to be run; empty where it does not say. */
export interface ImageDefaults {
  readonly user: string
  readonly env: readonly string[]
  readonly entrypoint: readonly string[]
  readonly cmd: readonly string[]
  readonly workingDir: string
  readonly stopSignal: string
}

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** More than the kernel takes for arguments and environment together (ARG_MAX with the usual stack) is refused early. */
const MAX_TOTAL_BYTES = 1024 * 1024

/**
 * The arguments: the request's command replaces entrypoint and cmd of the image, its args alone replace only cmd.
 * @throws RuntimeError invalid-argument when there is nothing to run
 */
export const commandLine = (config: ContainerConfig, image: ImageDefaults): string[] => {
  const { command, args } = config
  const line =
    command.length > 0 ? [...command, ...args] : [...image.entrypoint, ...(args.length > 0 ? args : image.cmd)]
  if (line.length === 0) throw invalid('Neither the request nor the image says which command to run')
  for (const word of line) if (word.includes('\0')) throw invalid(`Command ${quoted(word)} holds a NUL character`)
  checkTotal('command and args', line)
  return line
}

/**
 * The working directory. The runtime makes it, inside the container, when it is missing.
 * @throws RuntimeError when it is relative, or a door out of the container (CVE-2024-21626)
 */
export const workingDirectory = (config: ContainerConfig, image: ImageDefaults): string => {
  const own = config.workingDir !== ''
  const path = own ? config.workingDir : image.workingDir || '/'
  const refuse = own ? invalid : impossible
  const field = own ? 'working_dir' : 'Working directory of the image'
  if (!path.startsWith('/')) throw refuse(`${field} ${quoted(path)} is not an absolute path`)
  if (hasControlCharacters(path)) throw refuse(`${field} ${quoted(path)} holds control characters`)
  const tidy = posix.normalize(path)
  if (/^\/proc\/(self|thread-self|\d+)(\/|$)/.test(tidy)) {
    throw refuse(`${field} ${quoted(path)} lies in the /proc of a process`)
  }
  return tidy.length > 1 ? tidy.replace(/\/$/, '') : tidy
}

export interface EnvironmentInput {
  readonly config: ContainerConfig
  readonly image: ImageDefaults
  readonly hostname: string
  readonly home: string
  /** "KEY=value" of the configuration. */
  readonly defaults?: readonly string[] | undefined
  /** Facts about the node; set where nothing else is. */
  readonly fallbacks?: readonly (readonly [string, string])[]
}

/**
 * The environment, each name once: built in < configured < image < request. The host name is a fact about the pod, so that only the
 * request may say otherwise; an image made from a running container would carry that container's.
 * @throws RuntimeError for names and values that no process could be given exactly
 */
export const environment = ({
  config,
  image,
  hostname,
  home,
  defaults = [],
  fallbacks = [],
}: EnvironmentInput): string[] => {
  const env = new Map([['PATH', DEFAULT_PATH]])
  if (config.tty) env.set('TERM', 'xterm')
  for (const entry of defaults) setFromImage(env, entry)
  for (const entry of image.env) setFromImage(env, entry)
  if (hostname !== '') env.set('HOSTNAME', hostname)
  for (const variable of config.envs) env.set(...requestVariable(variable))
  if (!env.has('HOME')) env.set('HOME', home)
  for (const [name, value] of fallbacks) if (!env.has(name)) env.set(name, value)
  const entries = [...env].map(([name, value]) => `${name}=${value}`)
  checkTotal('envs', entries)
  return entries
}

const setFromImage = (env: Map<string, string>, entry: string): void => {
  const equals = entry.indexOf('=')
  if (equals < 1 || entry.includes('\0')) throw impossible(`Image has the environment entry ${quoted(entry)}`)
  env.set(entry.slice(0, equals), entry.slice(equals + 1))
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

const requestVariable = ({ key, value }: KeyValue): [string, string] => {
  if (key === '' || key.includes('=') || key.includes('\0')) throw invalid(`envs has the key ${quoted(key)}`)
  if (value.includes(0)) throw invalid(`envs ${quoted(key)}: the value holds a NUL byte`)
  try {
    return [key, strictUtf8.decode(value)]
  } catch (cause) {
    // config.json is JSON, which cannot carry other bytes; the runtime would replace them silently.
    throw invalid(`envs ${quoted(key)}: the value is not UTF-8, which the OCI runtime needs`, cause)
  }
}

const checkTotal = (field: string, texts: readonly string[]): void => {
  let total = 0
  for (const text of texts) total += Buffer.byteLength(text) + 1
  if (total > MAX_TOTAL_BYTES) throw invalid(`${field} take ${total} bytes, more than ${MAX_TOTAL_BYTES}`)
}
