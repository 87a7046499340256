/**
 * Tells when something in a directory may have changed, whether or not the directory exists yet. Events are a hint that
 * makes it quick; looking every now and then is what makes it certain, since inotify watches die silently with their directory and
 * can be exhausted.
 */
import { type FSWatcher, statSync, watch } from 'node:fs'
import { dirname } from 'node:path'
import { messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { Repeat } from '#storage/slow-looks.ts'

/** Events come in bursts: an installer writes, renames and chmods. */
const DEBOUNCE_MS = 100

export interface WatchOptions {
  log: Log
  /** Has it looked at without an event. */
  repeat: Repeat
}

/** The directory itself, or the nearest one above it that exists. */
const nearestExisting = (dir: string): { path: string; identity: string } | undefined => {
  for (let path = dir; ; path = dirname(path)) {
    try {
      const stat = statSync(path)
      if (stat.isDirectory()) return { path, identity: `${path} ${stat.dev}:${stat.ino}` }
    } catch {
      // Not there: look one further up.
    }
    if (path === dirname(path)) return undefined
  }
}

export class DirectoryWatch {
  readonly #dir: string
  readonly #log: Log
  readonly #changed: () => void
  readonly #endLooking: () => void
  #watcher: FSWatcher | undefined
  #watched: string | undefined
  #soon: NodeJS.Timeout | undefined
  #isDegraded = false

  /** Calls `changed` some time after anything may have changed, and whenever it is looked at. */
  constructor(dir: string, changed: () => void, { log, repeat }: WatchOptions) {
    this.#dir = dir
    this.#log = log
    this.#changed = changed
    this.#endLooking = repeat(() => this.#look())
    this.#arm()
  }

  close(): void {
    this.#endLooking()
    clearTimeout(this.#soon)
    this.#disarm()
  }

  #look(): void {
    this.#arm()
    this.#changed()
  }

  #lookSoon(): void {
    clearTimeout(this.#soon)
    this.#soon = setTimeout(() => this.#look(), DEBOUNCE_MS).unref()
  }

  /** Watches the directory that is at the path now, unless that is the one already watched. */
  #arm(): void {
    const target = nearestExisting(this.#dir)
    if (target?.identity === this.#watched) return
    this.#disarm()
    if (target === undefined) return
    try {
      this.#watcher = watch(target.path, { persistent: false }, () => this.#lookSoon())
      this.#watcher.on('error', (error) => this.#degrade(error))
      this.#watched = target.identity
      this.#isDegraded = false
    } catch (error) {
      this.#degrade(error)
    }
  }

  #disarm(): void {
    this.#watcher?.close()
    this.#watcher = undefined
    this.#watched = undefined
  }

  #degrade(error: unknown): void {
    this.#disarm()
    if (this.#isDegraded) return
    this.#isDegraded = true
    this.#log.warn('Cannot watch directory, look at it from time to time instead', {
      directory: this.#dir,
      reason: messageOf(error),
    })
  }
}
