/**
 * UpdateRuntimeConfig: writes the CNI configuration from the operator's template once the kubelet says which addresses the
 * node's pods get. The template is JSON in which some strings stand for the addresses, so the outcome is JSON, whatever comes.
 *
 *   "$POD_CIDR"          the first range             "$POD_CIDR_V4", "$POD_CIDR_V6"   the first range of that family
 *   "$POD_CIDR_RANGES"   host-local's `ranges`: [[{"subnet": …}], …], one per range
 *   "$POD_ROUTES"        host-local's `routes`: a default route per family
 */
import { mkdir, readFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import type { Linux } from '#linux/linux.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import { parseNetworkConfig } from './cni-config.ts'

/** After what other installers of networks usually take. */
const FILE_NAME = '99-cricket.conflist'

interface Range {
  readonly family: 4 | 6
  readonly cidr: string
}

/**
 * The ranges in what the kubelet sends: one, or one per family, with a comma between.
 * @throws RuntimeError invalid-argument for what is no address range
 */
export const parsePodCidr = (text: string): Range[] =>
  text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map((cidr) => {
      const [address = '', bits = ''] = cidr.split('/')
      const version = isIP(address)
      const isRange = /^[^/]+\/\d{1,3}$/.test(cidr) && Number(bits) <= (version === 4 ? 32 : 128)
      if (version !== 0 && isRange && !address.includes('%')) return { family: version === 4 ? 4 : 6, cidr }
      throw new RuntimeError(
        'invalid-argument',
        `runtime_config.network_config.pod_cidr ${JSON.stringify(cidr)} must be an address range such as "10.1.0.0/24"`,
      )
    })

const DEFAULT_ROUTE = { 4: '0.0.0.0/0', 6: '::/0' } as const

const standsFor = (placeholder: string, ranges: readonly Range[]): unknown => {
  const range = (family?: 4 | 6): string => {
    const found = ranges.find((each) => family === undefined || each.family === family)
    if (found !== undefined) return found.cidr
    throw new RuntimeError('failed-precondition', `uses "${placeholder}", and the node has no IPv${family} pod range`)
  }
  switch (placeholder) {
    case '$POD_CIDR':
      return range()
    case '$POD_CIDR_V4':
      return range(4)
    case '$POD_CIDR_V6':
      return range(6)
    case '$POD_CIDR_RANGES':
      return ranges.map(({ cidr }) => [{ subnet: cidr }])
    case '$POD_ROUTES':
      return ranges.map(({ family }) => ({ dst: DEFAULT_ROUTE[family] }))
    default:
      return placeholder
  }
}

/**
 * The template with the ranges in the places that stand for them.
 * @throws RuntimeError failed-precondition when that makes no usable network configuration
 */
export const fillTemplate = (template: string, ranges: readonly Range[]): string => {
  const fill = (_key: string, value: unknown): unknown => (typeof value === 'string' ? standsFor(value, ranges) : value)
  let filled: unknown
  try {
    filled = JSON.parse(template, fill)
  } catch (cause) {
    if (cause instanceof RuntimeError) throw cause
    throw new RuntimeError('failed-precondition', 'is not valid JSON', { cause })
  }
  const text = `${JSON.stringify(filled, null, 2)}\n`
  parseNetworkConfig(FILE_NAME, text)
  return text
}

export interface TemplateNeeds {
  readonly config: { readonly network: { readonly configDir: string; readonly confTemplate?: string | undefined } }
  readonly linux: Pick<Linux, 'readFileIfExists' | 'writeFileAtomic'>
}

/**
 * Writes the pod network's configuration for these ranges. Does nothing without a template or a range, nor when it is written.
 * @throws RuntimeError invalid-argument for the ranges, failed-precondition for the template
 */
export const updatePodCidr = async ({ config, linux }: TemplateNeeds, podCidr: string): Promise<void> => {
  const { configDir, confTemplate } = config.network
  const ranges = parsePodCidr(podCidr)
  if (confTemplate === undefined || ranges.length === 0) return
  const text = await filledFile(confTemplate, ranges)
  const path = join(configDir, FILE_NAME)
  const written = await linux.readFileIfExists(path)
  if (written?.toString() === text) return
  await mkdir(configDir, { recursive: true })
  await linux.writeFileAtomic(path, text, { mode: 0o644, durable: true })
}

const filledFile = async (template: string, ranges: readonly Range[]): Promise<string> => {
  try {
    return fillTemplate(await readFile(template, 'utf8'), ranges)
  } catch (cause) {
    throw new RuntimeError('failed-precondition', `network.confTemplate "${template}": ${messageOf(cause)}`, { cause })
  }
}
