/** Runs one CNI plugin with one verb: environment and standard input as the CNI specification wants them, result or error out. */

import * as z from 'zod'
import type { Linux } from '#linux/linux.ts'
import { type ErrorKind, isKind, RuntimeError } from '#proto/errors.ts'
import { POD_INTERFACE } from './attachment.ts'
import { findPlugin, type PluginConfig } from './cni-config.ts'
import { CniResult } from './cni-result.ts'

/** Results are a few hundred bytes; a plugin that prints more than this is broken. */
const MAX_OUTPUT_BYTES = 1024 * 1024

const MAX_ERROR_CHARS = 1024

/** Plugins call iptables, ip and the like by name. */
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** CNI specification, section "Error": try again later. */
const TRY_AGAIN_LATER = 11

export type CniVerb = 'ADD' | 'DEL' | 'CHECK' | 'STATUS' | 'GC'

export interface PluginCall {
  verb: CniVerb
  plugin: PluginConfig
  network: { name: string; cniVersion: string }
  /** Whom it is about; absent for STATUS and GC, which are about the network. */
  pod?: {
    sandboxId: string
    /** Empty when the network namespace is gone (DEL only). */
    netnsPath: string
    /** CNI_ARGS. */
    args: string
  }
  prevResult?: CniResult | undefined
  runtimeConfig?: Record<string, unknown> | undefined
  /** GC: what is to be kept. */
  validAttachments?: readonly { containerID: string; ifname: string }[] | undefined
  timeoutMs: number
  signal?: AbortSignal | undefined
}

export interface PluginHost {
  binDirs: readonly string[]
  linux: Pick<Linux, 'runCommand'>
}

const CniError = z.looseObject({
  code: z.number().optional(),
  msg: z.string().optional(),
  details: z.string().optional(),
})

const environment = ({ verb, pod }: PluginCall, binDirs: readonly string[]): Record<string, string> => ({
  PATH,
  CNI_COMMAND: verb,
  CNI_PATH: binDirs.join(':'),
  ...(pod && {
    CNI_CONTAINERID: pod.sandboxId,
    CNI_NETNS: pod.netnsPath,
    CNI_IFNAME: POD_INTERFACE,
    CNI_ARGS: pod.args,
  }),
})

const input = ({ plugin, network, prevResult, runtimeConfig, validAttachments }: PluginCall): string =>
  JSON.stringify({
    ...plugin,
    name: network.name,
    cniVersion: network.cniVersion,
    ...(prevResult && { prevResult }),
    ...(runtimeConfig && { runtimeConfig }),
    ...(validAttachments && { 'cni.dev/valid-attachments': validAttachments }),
  })

const subject = ({ verb, plugin, network, pod }: PluginCall): string =>
  `CNI plugin "${plugin.type}" of network "${network.name}" cannot ${verb}${pod ? ` sandbox "${pod.sandboxId}"` : ''}`

/** A plugin's words on one line, without anything that could move a terminal's cursor, cut to a sane length. */
const tidy = (text: string): string => {
  const line = text
    .replace(/\s+/g, ' ')
    .replace(/\p{Cc}/gu, '')
    .trim()
  return line.length > MAX_ERROR_CHARS ? `${line.slice(0, MAX_ERROR_CHARS)}…` : line
}

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

interface Failure {
  kind: ErrorKind
  reason: string
}

/** What the plugin says went wrong: the CNI error object on standard output, else whatever is on standard error. */
const failureOf = (stdout: string, stderr: string, ending: string): Failure => {
  const reported = CniError.safeParse(parseJson(stdout))
  if (reported.success && reported.data.msg !== undefined) {
    const { code, msg, details } = reported.data
    const kind = code === TRY_AGAIN_LATER ? 'unavailable' : 'internal'
    return { kind, reason: tidy(details ? `${msg}: ${details}` : msg) }
  }
  return { kind: 'internal', reason: tidy(stderr || stdout) || ending }
}

const resultOf = (call: PluginCall, stdout: string): CniResult | undefined => {
  if (call.verb !== 'ADD') return undefined
  const result = CniResult.safeParse(parseJson(stdout))
  if (result.success) return result.data
  const what = stdout.trim() === '' ? 'prints no result' : `prints what is no CNI result: ${tidy(stdout).slice(0, 200)}`
  throw new RuntimeError('internal', `${subject(call)}: it ${what}`, { cause: result.error })
}

const run = async (call: PluginCall, path: string, { binDirs, linux }: PluginHost) => {
  const { timeoutMs, signal } = call
  try {
    return await linux.runCommand(path, [], {
      input: input(call),
      env: environment(call, binDirs),
      timeoutMs,
      maxOutput: MAX_OUTPUT_BYTES,
      ...(signal && { signal }),
    })
  } catch (cause) {
    if (isKind(cause, 'cancelled')) throw cause
    if (isKind(cause, 'deadline-exceeded')) {
      const reason = `it did not finish within ${timeoutMs / 1000} s and was killed`
      throw new RuntimeError('deadline-exceeded', `${subject(call)}: ${reason}`, { cause })
    }
    throw new RuntimeError('failed-precondition', `${subject(call)}: "${path}" cannot be run`, { cause })
  }
}

/**
 * Runs the plugin. ADD returns its result, the other verbs nothing.
 * @throws RuntimeError failed-precondition when the plugin is not there, deadline-exceeded when it hangs, unavailable
 *   when it asks to try again later, internal with its own words otherwise
 */
export const runPlugin = async (call: PluginCall, host: PluginHost): Promise<CniResult | undefined> => {
  const { type } = call.plugin
  const path = findPlugin(type, host.binDirs)
  if (path === undefined) {
    const where = `"${type}" is not in ${host.binDirs.join(', ')}`
    throw new RuntimeError('failed-precondition', `${subject(call)}: ${where}`)
  }
  const { exit, stdout, stderr } = await run(call, path, host)
  if (exit.how === 'exited' && exit.code === 0) return resultOf(call, stdout.toString())
  const ending = exit.how === 'exited' ? `it exited with ${exit.code}` : `it was ended by signal ${exit.signal}`
  const { kind, reason } = failureOf(stdout.toString(), stderr.toString(), ending)
  throw new RuntimeError(kind, `${subject(call)}: ${reason}`)
}
