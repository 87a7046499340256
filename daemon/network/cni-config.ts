/** CNI network configuration files: which one is the pod network, and what is wrong with the others. */
import { accessSync, constants, readdirSync, readFileSync, statSync } from 'node:fs'
import { extname, join } from 'node:path'
import * as z from 'zod'
import { RuntimeError } from '#proto/errors.ts'

/** Oldest first. Before 0.3.0 results had another shape, and no plugin in use needs that any more. */
const SUPPORTED_VERSIONS = ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0']

const CONFIG_EXTENSIONS = new Set(['.conflist', '.conf', '.json'])

const MAX_FILE_BYTES = 1024 * 1024

/** A plugin's name becomes a path under the plugin directories, so it must not lead out of them (CVE-2021-20206). */
const PluginName = z
  .string()
  .regex(/^[A-Za-z0-9_.-]+$/, { error: 'must consist of letters, digits, ".", "_" and "-"' })
  .refine((name) => !/^\.+$/.test(name), { error: 'must not be a directory' })

/** One plugin of the chain. Only what the runtime reads is described; the rest is the plugin's business and kept. */
export const PluginConfig = z.looseObject({
  type: PluginName,
  capabilities: z.record(z.string(), z.boolean()).optional(),
  ipam: z.looseObject({ type: PluginName.optional() }).optional(),
})
export type PluginConfig = z.infer<typeof PluginConfig>

/** The pod network, always as a chain of plugins, whichever kind of file it came from. */
export const NetworkConfig = z.object({
  file: z.string(),
  name: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]*$/, {
    error: 'must begin with a letter or digit and go on with these, ".", "_" and "-"',
  }),
  cniVersion: z.enum(SUPPORTED_VERSIONS),
  disableCheck: z.boolean(),
  plugins: z.array(PluginConfig).min(1, { error: 'must list at least one plugin' }),
})
export type NetworkConfig = z.infer<typeof NetworkConfig>

const FileContent = z.looseObject({
  name: z.string(),
  cniVersion: z.string().optional(),
  cniVersions: z.array(z.string()).optional(),
  // Some installers write the word instead of the value.
  disableCheck: z.union([z.boolean(), z.stringbool()]).default(false),
  plugins: z.array(z.unknown()).optional(),
})
type FileContent = z.infer<typeof FileContent>

/** The newest version that the file offers and we speak; what the file says when there is none. */
const chooseVersion = ({ cniVersion, cniVersions = [] }: FileContent): string => {
  const offered = cniVersion === undefined ? cniVersions : [cniVersion, ...cniVersions]
  return SUPPORTED_VERSIONS.findLast((version) => offered.includes(version)) ?? offered[0] ?? 'none'
}

const issueText = ({ path, message }: z.core.$ZodIssue): string => `"${path.join('.')}": ${message}`

const checked = <Schema extends z.ZodType>(schema: Schema, data: unknown): z.output<Schema> => {
  const result = schema.safeParse(data)
  if (result.success) return result.data
  throw new RuntimeError('failed-precondition', result.error.issues.map(issueText).join('; '))
}

/**
 * The content of a configuration file, a list or a single plugin.
 * @throws RuntimeError failed-precondition saying what is wrong, without the file's name
 */
export const parseNetworkConfig = (file: string, text: string): NetworkConfig => {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (cause) {
    throw new RuntimeError('failed-precondition', 'is not valid JSON', { cause })
  }
  const content = checked(FileContent, json)
  return checked(NetworkConfig, {
    file,
    name: content.name,
    cniVersion: chooseVersion(content),
    disableCheck: content.disableCheck,
    plugins: content.plugins ?? [json],
  })
}

/** Where a plugin's program is, or undefined. Asks the file system each time. */
export const findPlugin = (type: string, binDirs: readonly string[]): string | undefined =>
  binDirs.map((dir) => join(dir, type)).find(isProgram)

const isProgram = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}

/** The names of the programs that the network needs, address management included, which are not there. */
export const missingPlugins = ({ plugins }: NetworkConfig, binDirs: readonly string[]): string[] => {
  const needed = new Set(plugins.flatMap(({ type, ipam }) => [type, ipam?.type ?? type]))
  return [...needed].filter((type) => findPlugin(type, binDirs) === undefined)
}

export interface ConfigScan {
  /** The first usable file, by name; undefined when there is none. */
  config: NetworkConfig | undefined
  /** Files that were passed over, with the reason. */
  skipped: { file: string; reason: string }[]
}

const readBounded = (file: string): string => {
  const stat = statSync(file)
  if (!stat.isFile()) throw new RuntimeError('failed-precondition', 'is not a file')
  if (stat.size > MAX_FILE_BYTES)
    throw new RuntimeError('failed-precondition', `is larger than ${MAX_FILE_BYTES} bytes`)
  return readFileSync(file, 'utf8')
}

/** Names of the files that count, in the order in which they are tried. Dot files are someone's unfinished writing. */
export const configFiles = (configDir: string): string[] => {
  try {
    return readdirSync(configDir)
      .filter((name) => CONFIG_EXTENSIONS.has(extname(name)) && !name.startsWith('.'))
      .sort()
  } catch {
    return []
  }
}

/** Looks for the pod network in the directory. Never throws: a broken file is passed over and its reason kept. */
export const scanConfigDir = (configDir: string): ConfigScan => {
  const skipped: ConfigScan['skipped'] = []
  for (const name of configFiles(configDir)) {
    const file = join(configDir, name)
    try {
      return { config: parseNetworkConfig(file, readBounded(file)), skipped }
    } catch (error) {
      skipped.push({ file, reason: error instanceof Error ? error.message : String(error) })
    }
  }
  return { config: undefined, skipped }
}
