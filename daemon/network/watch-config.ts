/** The pod network configuration in effect, kept in memory and current, so that asking for it costs nothing. */
import { statSync } from 'node:fs'
import { join } from 'node:path'
import type { Log } from '#proto/log.ts'
import type { Repeat } from '#storage/slow-looks.ts'
import {
  type ConfigScan,
  configFiles,
  missingPlugins,
  type NetworkConfig,
  pluginFiles,
  scanConfigDir,
} from './cni-config.ts'
import { DirectoryWatch } from './watch-directory.ts'

export type NetworkReady = { ok: true } | { ok: false; reason: string }

export interface WatchedConfig {
  /** From memory. */
  ready(): NetworkReady
  /** From memory; undefined when not ready. */
  current(): NetworkConfig | undefined
  /** Looks at the files now. */
  refresh(): void
  close(): void
}

export interface WatchConfigOptions {
  configDir: string
  binDirs: readonly string[]
  log: Log
  repeat: Repeat
  /** Called whenever there may be another configuration in effect. */
  changed?(): void
}

/** Changes whenever a candidate file is written, replaced, added or removed. */
const signatureOf = (configDir: string): string =>
  [...configFiles(configDir), ...pluginFiles(configDir)]
    .map((name) => {
      const stat = statSync(join(configDir, name), { bigint: true, throwIfNoEntry: false })
      return `${name}:${stat?.ino}:${stat?.size}:${stat?.mtimeNs}:${stat?.ctimeNs}`
    })
    .join('\n')

const reasonFor = (
  { config, skipped }: ConfigScan,
  configDir: string,
  binDirs: readonly string[],
): string | undefined => {
  if (config === undefined) {
    const why = skipped.map(({ file, reason }) => `; "${file}" ${reason}`).join('')
    return `no usable CNI network configuration in "${configDir}"${why}`
  }
  const missing = missingPlugins(config, binDirs)
  if (missing.length === 0) return undefined
  const names = missing.map((name) => `"${name}"`).join(', ')
  return `network "${config.name}" of "${config.file}" needs the CNI plugins ${names}, which are not in ${binDirs.join(', ')}`
}

/** Reads the configuration and keeps it current until closed. Never throws for what the files hold. */
export const watchConfig = ({ configDir, binDirs, log, repeat, changed }: WatchConfigOptions): WatchedConfig => {
  let signature: string | undefined
  let scan: ConfigScan = { config: undefined, skipped: [] }
  let problem: string | undefined = 'never looked'

  const rescan = (): void => {
    const seen = signatureOf(configDir)
    if (seen === signature) return
    signature = seen
    scan = scanConfigDir(configDir)
    for (const { file, reason } of scan.skipped) log.warn('Skip CNI network configuration', { file, reason })
  }

  const refresh = (): void => {
    const before = signature
    const problemBefore = problem
    rescan()
    // Without a change of the files, only a plugin that was missing can have come; a vanished one shows when it is run.
    if (before !== signature || problem !== undefined) problem = reasonFor(scan, configDir, binDirs)
    if (problem !== undefined && problem !== problemBefore) log.warn('Pod network is not ready', { reason: problem })
    if (problem === undefined && (problemBefore !== undefined || before !== signature)) {
      log.info('Use pod network', { network: scan.config?.name, file: scan.config?.file })
    }
    if (before !== signature || problem !== problemBefore) changed?.()
  }

  refresh()
  const watch = new DirectoryWatch(configDir, refresh, { log, repeat })
  return {
    ready: () => (problem === undefined ? { ok: true } : { ok: false, reason: problem }),
    current: () => (problem === undefined ? scan.config : undefined),
    refresh,
    close: () => watch.close(),
  }
}
