/** A real store in a directory of its own, for one test. */

import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { linux } from '#linux/linux.ts'
import type { Log } from '#proto/log.ts'
import { openStorage, type Storage } from '#storage/storage.ts'
import { type Images, type OpenImages, openImages } from '../image-store.ts'
import type { ImagesConfig } from '../images-config.ts'
import type { Timing } from '../registry/timing.ts'

/** Long enough for a busy machine, short enough for tests that wait for it. */
export const quickTiming: Timing = {
  connectMs: 5_000,
  responseMs: 5_000,
  idleMs: 5_000,
  leastBytes: 1,
  documentMs: 10_000,
  attempts: 3,
  firstPauseMs: 5,
  longestPauseMs: 20,
  longestRetryAfterMs: 50,
}

/** Nothing of the host's own configuration. */
export const testConfig: ImagesConfig = {
  insecureRegistries: [],
  tokenServices: undefined,
  registriesConf: '/nonexistent/registries.conf',
  certsDirs: [],
  parts: { connections: 1, fromBytes: 0 },
  credentials: {
    authFiles: [],
    shareWithMirrors: {},
    helpers: { dirs: [], deadlineMs: 5_000, env: {} },
  },
  proxies: {},
  signatures: {
    policyFile: undefined,
    usualPolicyFile: undefined,
    policyDir: undefined,
    placesDir: '/nonexistent/registries.d',
    verifiers: { dir: undefined, most: 10, deadlineMs: 10_000 },
  },
  decryptionKeysDir: '/nonexistent/keys',
  pinned: [],
}

export class TestImages implements AsyncDisposable {
  readonly directory: string
  readonly storage: Storage
  readonly images: Images
  /** Everything logged, as JSON lines. */
  readonly logged: string[]

  private constructor(directory: string, storage: Storage, images: Images, logged: string[]) {
    this.directory = directory
    this.storage = storage
    this.images = images
    this.logged = logged
  }

  /** @param directory one of an earlier instance, to start again on what it left */
  static async open(
    options: Partial<Pick<OpenImages, 'inUse' | 'timing' | 'platform'>> & { config?: Partial<ImagesConfig> } = {},
    directory?: string,
  ): Promise<TestImages> {
    const root = directory ?? (await mkdtemp(join(tmpdir(), 'cricket-images-')))
    const logged: string[] = []
    const log = recordingLog(logged)
    const storage = await openStorage({ root: join(root, 'storage'), linux, log })
    const images = await openImages({
      storage,
      root: join(root, 'images'),
      linux,
      log,
      inUse: () => false,
      timing: quickTiming,
      ...options,
      config: { ...testConfig, ...options.config },
    }).catch(async (error: unknown) => {
      await storage.close()
      await rm(root, { recursive: true, force: true })
      throw error
    })
    return new TestImages(root, storage, images, logged)
  }

  /** Stops everything, leaves the directory; returns it. */
  async stop(): Promise<string> {
    await this.images.close()
    await this.storage.close()
    return this.directory
  }

  /** Names of the record files. */
  async records(): Promise<string[]> {
    return (await readdir(join(this.directory, 'images'))).filter((name) => name.endsWith('.json'))
  }

  async quarantined(): Promise<string[]> {
    return readdir(join(this.directory, 'images', 'quarantine'))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
    await rm(this.directory, { recursive: true, force: true })
  }
}

export const recordingLog = (lines: string[]): Log => {
  const write = (message: string, fields?: Record<string, unknown>): void => {
    lines.push(JSON.stringify({ message, ...fields }))
  }
  const log: Log = { debug: write, info: write, warn: write, error: write, child: () => log }
  return log
}
