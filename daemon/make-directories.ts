/** The directories of a daemon, before it opens anything in them. */
import { access, constants, mkdir, rm, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import { syncDirectory } from '#storage/sync-directory.ts'
import { criuSettings } from './checkpoint/criu-settings.ts'
import type { Config } from './config/schema.ts'
import type { Paths } from './paths.ts'

/** @throws RuntimeError failed-precondition when one of the roots cannot be written to */
export async function makeDirectories(config: Config, paths: Paths): Promise<void> {
  for (const key of ['root', 'state'] as const) await makeWritable(key, config[key])
  await mkdir(dirname(config.listen), { recursive: true, mode: 0o711 })
  for (const dir of [paths.sandboxes, paths.containers, paths.images, paths.networkCache, paths.ownVolumes]) {
    await mkdir(dir, { recursive: true, mode: 0o711 })
  }
  await mkdir(paths.checkpoints, { recursive: true, mode: 0o700 })
  await writeFile(paths.criuSettings, criuSettings, { mode: 0o600 })
  // What is synced in them later is found again.
  await syncDirectory(config.root)
}

async function makeWritable(key: 'root' | 'state', dir: string): Promise<void> {
  try {
    await mkdir(dir, { recursive: true, mode: 0o711 })
    // A file system that the kernel has given up may still say that it can be written to.
    await access(dir, constants.W_OK)
    await syncDirectory(dir)
  } catch (cause) {
    const message = `Cannot write to the directory "${dir}" (configuration key ${key}): ${messageOf(cause)}`
    throw new RuntimeError('failed-precondition', message, { cause })
  }
}

/** Nobody listens any more on what an earlier daemon left there. */
export async function makeListenerDirectory({ seccompListeners }: Paths): Promise<void> {
  await rm(seccompListeners, { recursive: true, force: true })
  await mkdir(seccompListeners, { mode: 0o700 })
}
