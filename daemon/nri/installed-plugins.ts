/** The plugins that lie in the plugin directory, with their configuration. */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import { readBounded } from '#linux/read-bounded.ts'
import { messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { checkedIdentity } from './meet-plugin.ts'
import { type PluginIdentity, pluginName } from './plugin.ts'

export interface InstalledPlugin {
  readonly path: string
  readonly identity: PluginIdentity
  /** The text of its configuration file; empty when there is none. */
  readonly config: string
}

const MAX_CONFIG_BYTES = 1024 * 1024

/** What cannot be used is told and passed over: one bad file must not cost the node its other plugins. */
export async function installedPlugins(pluginDir: string, configDir: string, log: Log): Promise<InstalledPlugin[]> {
  const found: InstalledPlugin[] = []
  for (const name of (await namesIn(pluginDir)).sort()) {
    const path = join(pluginDir, name)
    try {
      if (!(await isProgram(path))) continue
      const identity = checkedIdentity(name.slice(0, 2), name[2] === '-' ? name.slice(3) : '')
      found.push({ path, identity, config: configOf(configDir, identity) })
    } catch (error) {
      log.error('Cannot use an installed plugin', { path, why: messageOf(error) })
    }
  }
  return found
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return []
    throw error
  }
}

/** It will run as root: nobody else may be able to change it. */
async function isProgram(path: string): Promise<boolean> {
  const stats = await stat(path)
  if (!stats.isFile() || (stats.mode & 0o111) === 0) return false
  if ((stats.mode & 0o022) !== 0 || (stats.uid !== 0 && stats.uid !== process.geteuid?.()))
    throw new Error('others than root may change it')
  return true
}

function configOf(directory: string, identity: PluginIdentity): string {
  for (const name of [pluginName(identity), identity.base]) {
    try {
      return readBounded(join(directory, `${name}.conf`), MAX_CONFIG_BYTES).toString('utf8')
    } catch (error) {
      if (!isErrno(error, 'ENOENT', 'ENOTDIR')) throw error
    }
  }
  return ''
}
