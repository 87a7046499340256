/** What the image store is opened with and asked for. */

import type { Linux } from '#linux/linux.ts'
import type { Log } from '#proto/log.ts'
import type { Repeat } from '#storage/slow-looks.ts'
import type { Storage } from '#storage/storage.ts'
import type { RegistryAuth } from './credentials/credentials.ts'
import type { ImageId } from './image-id.ts'
import type { ImagesConfig } from './images-config.ts'
import type { Platform } from './manifest.ts'
import type { Timing } from './registry/timing.ts'

export interface OpenImages {
  readonly storage: Storage
  /** Directory of the image records; made when missing. */
  readonly root: string
  /** Directories of image records that are only read; their layers are in the additional storages of `storage`. */
  readonly additionalRoots?: readonly string[]
  readonly config: ImagesConfig
  readonly linux: Linux
  readonly log: Log
  /** Whether a container needs this image: it is then not removed. */
  readonly inUse: (id: ImageId) => boolean
  /** Called when a pull or load begins; what it gives is disposed of when that ends. */
  readonly during?: () => Disposable
  /** Has others' files looked at, for readers who must not wait: they see a change a little later than pulls do. */
  readonly repeat?: Repeat
  /** This host's, unless given. */
  readonly platform?: Platform
  readonly timing?: Timing
}

export interface PullRequest {
  readonly reference: string
  readonly auth?: RegistryAuth
  /** Of the pod for which it is pulled. */
  readonly namespace?: string
  readonly signal?: AbortSignal
}
