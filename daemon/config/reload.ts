/**
 * SIGHUP: read the configuration again and take what can be taken while pods run. A configuration that is broken changes
 * nothing; a key that only a restart can change is named and keeps its value.
 */
import { isDeepStrictEqual } from 'node:util'
import { messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { Config } from './schema.ts'

/** What becomes of the keys of a new configuration. */
export interface Reload {
  /** The old configuration with the new values of the keys that can change. */
  readonly config: Config
  /** Dotted names. */
  readonly changed: readonly string[]
  readonly needRestart: readonly string[]
}

const liveKeys = new Set([
  'logLevel',
  'runtimes.default',
  'runtimes.handlers',
  'image.insecureRegistries',
  ...['idleTimeoutSeconds', 'creationTimeoutSeconds', 'maxConnections'].map((key) => `streaming.${key}`),
  ...['certFile', 'keyFile', 'clientCaFile', 'minVersion', 'ciphers'].map((key) => `streaming.tls.${key}`),
])

/** Pure: compare key by key, sections by their own keys. */
export function planReload(old: Config, fresh: Config): Reload {
  const changed: string[] = []
  const needRestart: string[] = []
  for (const key of differences(old, fresh)) (liveKeys.has(key) ? changed : needRestart).push(key)
  const { logLevel, runtimes, image } = fresh
  const { address, port, tls } = old.streaming
  return {
    config: {
      ...old,
      logLevel,
      runtimes,
      image: { ...old.image, insecureRegistries: image.insecureRegistries },
      streaming: { ...fresh.streaming, address, port, tls: { ...fresh.streaming.tls, enabled: tls.enabled } },
    },
    changed,
    needRestart,
  }
}

function differences(old: object, fresh: object, prefix = ''): string[] {
  const names = [...new Set([...Object.keys(old), ...Object.keys(fresh)])]
  return names.flatMap((name) => {
    const [a, b]: unknown[] = [Reflect.get(old, name), Reflect.get(fresh, name)]
    if (isDeepStrictEqual(a, b)) return []
    const key = `${prefix}${name}`
    return isSection(a) && isSection(b) && !liveKeys.has(key) ? differences(a, b, `${key}.`) : [key]
  })
}

const isSection = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** The parts of the daemon that follow the configuration. */
export interface Followers {
  setLogLevel(level: Config['logLevel']): void
  setRuntimes(runtimes: Config['runtimes']): Promise<void>
  setInsecureRegistries(hosts: readonly string[]): void
  setStreaming(streaming: Config['streaming']): void
}

/**
 * One reload after the other, each to its end.
 * @param load reads the files; throws RuntimeError naming every problem
 */
export class LiveConfig {
  #config: Config
  #tail: Promise<void> = Promise.resolve()
  readonly #load: () => Config
  readonly #followers: Followers
  readonly #log: Log

  constructor(options: { config: Config; load: () => Config; followers: Followers; log: Log }) {
    this.#config = options.config
    this.#load = options.load
    this.#followers = options.followers
    this.#log = options.log
  }

  /** What is in effect. */
  get config(): Config {
    return this.#config
  }

  /** Never rejects: what is wrong is logged, and the old configuration stays. */
  reload(): Promise<void> {
    this.#tail = this.#tail.then(() => this.#reloadOnce())
    return this.#tail
  }

  async #reloadOnce(): Promise<void> {
    try {
      const { config, changed, needRestart } = planReload(this.#config, this.#load())
      if (changed.some((key) => key.startsWith('runtimes.'))) await this.#followers.setRuntimes(config.runtimes)
      this.#followers.setInsecureRegistries(config.image.insecureRegistries)
      this.#followers.setStreaming(config.streaming)
      this.#followers.setLogLevel(config.logLevel)
      this.#config = config
      this.#log.info('Reloaded the configuration', { changed })
      if (needRestart.length > 0) this.#log.warn('Configuration keys that need a restart have changed', { needRestart })
    } catch (error) {
      this.#log.error('Cannot reload the configuration; the old one stays', { why: messageOf(error) })
    }
  }
}
