/** The built program `dist/bin/cricket` on a site. */

import { writeFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { stringify } from 'yaml'
import { apart } from './apart.ts'
import { Runtime, type RuntimeProgram } from './runtime.ts'
import type { Site } from './site.ts'

export const CRICKET = resolve(import.meta.dirname, '../dist/bin/cricket')

/** Sections of a configuration file; what is given replaces the site's own values key by key. */
export interface CricketConfig {
  insecureRegistries?: string[]
  preload?: string[]
  logLevel?: string
  /** Where CNI plugins are, instead of the host's directories. */
  binDirs?: string[]
  /** Further top-level sections, for instance `runtimes`. */
  sections?: Record<string, unknown>
}

export const cricketSocket = (site: Site): string => site.path('cricket.sock')

/** Writes the configuration file and returns its path. */
export async function writeCricketConfig(site: Site, config: CricketConfig = {}): Promise<string> {
  const path = site.path('config.yaml')
  const { network } = site
  await writeFile(
    path,
    stringify({
      root: site.path('root'),
      state: site.path('state'),
      listen: cricketSocket(site),
      cgroupDriver: site.cgroupDriver,
      logLevel: config.logLevel ?? 'info',
      network: { configDir: network.configDir, binDirs: config.binDirs ?? network.binDirs },
      image: { insecureRegistries: config.insecureRegistries ?? [], preload: config.preload ?? [] },
      ...config.sections,
    }),
  )
  return path
}

export const cricketProgram = (site: Site, configPath = site.path('config.yaml')): RuntimeProgram => ({
  name: 'cricket',
  command: [CRICKET, 'serve', '--config', configPath],
  socket: cricketSocket(site),
  logPath: site.path('cricket.log'),
  // For measuring other flags than those the build puts into the program.
  ...(process.env.CRICKET_NODE_FLAGS !== undefined && { env: { CRICKET_NODE_FLAGS: process.env.CRICKET_NODE_FLAGS } }),
})

/** Configures and starts the daemon. @param isApart on a root directory of its own; see `writtenApart` */
export async function startCricket(site: Site, config: CricketConfig = {}, isApart = false): Promise<Runtime> {
  await writeCricketConfig(site, config)
  const program = cricketProgram(site)
  const runtime = new Runtime(isApart ? apart(site, program) : program)
  await runtime.start()
  return runtime
}
