/**
 * The plugins of one network run one after the other: for one sandbox ADD and CHECK forwards, DEL backwards; for the network
 * itself STATUS and GC forwards.
 */
import { messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { cniArgs, isIdle, POD_INTERFACE, type PodAttachment, runtimeConfigFor } from './attachment.ts'
import type { NetworkConfig, PluginConfig } from './cni-config.ts'
import { type CniVerb, type PluginHost, runPlugin } from './cni-plugin.ts'
import type { CniResult } from './cni-result.ts'

/** How long one plugin may take for one verb. Adding may wait for a controller elsewhere in the cluster. */
export const PLUGIN_TIMEOUT_MS: Record<CniVerb, number> = {
  ADD: 120_000,
  DEL: 60_000,
  CHECK: 30_000,
  STATUS: 10_000,
  // Short: sandboxes are neither attached nor detached meanwhile.
  GC: 30_000,
}

export interface Chain {
  host: PluginHost
  config: NetworkConfig
  pod: PodAttachment
  timeoutMs: Record<CniVerb, number>
  log: Log
  signal?: AbortSignal | undefined
}

/** What an ADD that failed leaves behind: how far it came decides what has to be deleted. */
export interface AddOutcome {
  /** Plugins that were started, in order, the one that failed included. */
  attempted: PluginConfig[]
  /** The result of the last one that succeeded. */
  result: CniResult | undefined
  /** Set when a plugin failed. */
  failure?: { error: unknown }
}

const call = async (
  { host, config, pod, timeoutMs, signal, log }: Chain,
  verb: CniVerb,
  plugin: PluginConfig,
  netnsPath: string,
  prevResult: CniResult | undefined,
): Promise<CniResult | undefined> => {
  const started = performance.now()
  try {
    return await runPlugin(
      {
        verb,
        plugin,
        network: config,
        pod: { sandboxId: pod.sandboxId, netnsPath, args: cniArgs(pod) },
        prevResult,
        runtimeConfig: runtimeConfigFor(pod, plugin),
        timeoutMs: timeoutMs[verb],
        signal,
      },
      host,
    )
  } finally {
    const ms = Math.round(performance.now() - started)
    log.debug('Ran CNI plugin', { sandbox: pod.sandboxId, plugin: plugin.type, verb, ms })
  }
}

/** Runs ADD of every plugin, each given the result of the one before. Never throws: a failure is part of the outcome. */
export const addChain = async (chain: Chain): Promise<AddOutcome> => {
  const attempted: PluginConfig[] = []
  let result: CniResult | undefined
  for (const plugin of chain.config.plugins) {
    if (result !== undefined && isIdle(chain.pod, plugin)) continue
    attempted.push(plugin)
    try {
      result = await call(chain, 'ADD', plugin, chain.pod.netnsPath, result)
    } catch (error) {
      return { attempted, result, failure: { error } }
    }
  }
  return { attempted, result }
}

/**
 * Runs DEL after a failed ADD. The plugin that failed never said that it made anything, and one that cannot even read its
 * configuration fails at DEL as well: that must not keep the address of every further attempt.
 * @throws what the plugins before it report
 */
export const undoChain = async (
  chain: Chain,
  { attempted, result, failure }: AddOutcome,
  netnsPath: string,
): Promise<void> => {
  const failed = failure === undefined ? undefined : attempted.at(-1)
  if (failed === undefined) return deleteChain(chain, attempted, netnsPath, result)
  try {
    await deleteChain(chain, [failed], netnsPath, result)
  } catch (error) {
    chain.log.warn('CNI plugin fails at DEL as it did at ADD', {
      sandbox: chain.pod.sandboxId,
      plugin: failed.type,
      error,
    })
  }
  await deleteChain(chain, attempted.slice(0, -1), netnsPath, result)
}

/**
 * Runs DEL of these plugins, last one first. Stops at the first failure: going on could give an address back while rules of
 * the plugin that failed still lead to it, and the next pod with the address would get their traffic.
 * @throws what the plugin reports
 */
export const deleteChain = async (
  chain: Chain,
  plugins: readonly PluginConfig[],
  netnsPath: string,
  result: CniResult | undefined,
): Promise<void> => {
  const prevResult = isEarly(chain.config.cniVersion) ? undefined : result
  for (const [index, plugin] of [...plugins.entries()].reverse()) {
    if (index > 0 && isIdle(chain.pod, plugin)) continue
    await call(chain, 'DEL', plugin, netnsPath, prevResult)
  }
}

/**
 * Runs CHECK of every plugin, if the network knows that verb (since 0.4.0) and wants it.
 * @throws what the first plugin that finds something wrong reports
 */
export const checkChain = async (chain: Chain, result: CniResult): Promise<void> => {
  const { plugins, cniVersion, disableCheck } = chain.config
  if (disableCheck || isEarly(cniVersion)) return
  for (const [index, plugin] of plugins.entries()) {
    if (index > 0 && isIdle(chain.pod, plugin)) continue
    await call(chain, 'CHECK', plugin, chain.pod.netnsPath, result)
  }
}

/** The versions before 0.4.0, which know neither CHECK nor prevResult in DEL. */
const isEarly = (version: string): boolean => version.startsWith('0.3.')

/** A network without a sandbox. */
export type NetworkChain = Omit<Chain, 'pod'>

/**
 * Asks every plugin whether it could attach a sandbox now.
 * @throws what the first plugin that could not reports
 */
export const statusChain = async ({ host, config, timeoutMs, signal }: NetworkChain): Promise<void> => {
  for (const plugin of config.plugins) {
    await runPlugin({ verb: 'STATUS', plugin, network: config, timeoutMs: timeoutMs.STATUS, signal }, host)
  }
}

/**
 * Has every plugin give back what belongs to none of these sandboxes. A plugin that fails does not keep the others from it.
 * @returns whether all of them could
 */
export const gcChain = async (
  { host, config, timeoutMs, log, signal }: NetworkChain,
  valid: readonly string[],
): Promise<boolean> => {
  const validAttachments = valid.map((id) => ({ containerID: id, ifname: POD_INTERFACE }))
  let isDone = true
  for (const plugin of config.plugins) {
    try {
      const about = { verb: 'GC', plugin, network: config, validAttachments } as const
      await runPlugin({ ...about, timeoutMs: timeoutMs.GC, signal }, host)
    } catch (error) {
      isDone = false
      log.warn('CNI plugin cannot collect garbage', { plugin: plugin.type, why: messageOf(error) })
    }
  }
  return isDone
}
