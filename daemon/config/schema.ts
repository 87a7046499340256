/**
 * The whole configuration: every key, its type, its default and what it means, each section in a file of its own. Error
 * messages, `cricket config` and docs/configuration.md are all made from this schema; nothing else declares a key.
 */
import * as z from 'zod'
import { checkpoint } from './checkpoint.ts'
import { container } from './container.ts'
import { directory, socketPath } from './fields.ts'
import { image } from './image.ts'
import { monitor } from './monitor.ts'
import { network } from './network.ts'
import { cpuIsolation, workloads } from './node-features.ts'
import { nri } from './nri.ts'
import { type RuntimeHandlerConfig, runtimes } from './runtimes.ts'
import { sandbox } from './sandbox.ts'
import { storage } from './storage.ts'
import { streaming } from './streaming.ts'

/** What a configuration file may hold. Every key may be absent, so each file is valid, or not, on its own. */
export const ConfigFile = z.strictObject({
  root: directory()
    .default('/var/lib/cricket')
    .describe(
      'What survives a reboot: images, layers, records. Must be on a file system that can carry overlay layers.',
    ),
  state: directory()
    .default('/run/cricket')
    .describe('What a reboot ends: sockets, bundles, pinned namespaces, live status. Should be on a tmpfs.'),
  listen: socketPath()
    .optional()
    .describe(
      'The unix socket that the kubelet and crictl connect to; "unix://" in front is accepted. Not set: `cricket.sock` under `state`, which is /run/cricket/cricket.sock by default.',
    ),
  logLevel: z
    .enum(['debug', 'info', 'warn', 'error'])
    .default('info')
    .describe('The least important messages that are logged.'),
  cgroupDriver: z
    .enum(['cgroupfs', 'systemd'])
    .default('cgroupfs')
    .describe('Who makes control groups: cricket itself, or systemd. The kubelet asks for this and follows.'),
  runtimes,
  network,
  storage,
  image,
  monitor,
  sandbox,
  container,
  workloads,
  cpuIsolation,
  nri,
  streaming,
  checkpoint,
})

export type ConfigFile = z.infer<typeof ConfigFile>

/** The configuration in effect: defaults, files and flags put together, nothing left open. */
export interface Config extends Omit<ConfigFile, 'listen' | 'runtimes'> {
  listen: string
  runtimes: { default: string; handlers: Record<string, RuntimeHandlerConfig> }
}

export type LogLevel = Config['logLevel']
