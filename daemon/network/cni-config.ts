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

/** It becomes part of file names here and in the plugins. */
const NETWORK_NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/

/** The pod network, always as a chain of plugins, whichever kind of file it came from. */
export const NetworkConfig = z.object({
  file: z.string(),
  name: z.string().regex(NETWORK_NAME, {
    error: 'must begin with a letter or digit and go on with these, ".", "_" and "-"',
  }),
  cniVersion: z.enum(SUPPORTED_VERSIONS),
  disableCheck: z.boolean(),
  disableGC: z.boolean().default(false),
  plugins: z.array(PluginConfig).min(1, { error: 'must list at least one plugin' }),
})
export type NetworkConfig = z.infer<typeof NetworkConfig>

/** Some installers write the word instead of the value. */
const Flag = z.union([z.boolean(), z.stringbool()]).default(false)

const FileContent = z.looseObject({
  name: z.string(),
  cniVersion: z.string().optional(),
  cniVersions: z.array(z.string()).optional(),
  disableCheck: Flag,
  disableGC: Flag,
  loadOnlyInlinedPlugins: Flag,
  type: z.string().optional(),
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

const parsedJson = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new RuntimeError('failed-precondition', 'is not valid JSON', { cause })
  }
}

/**
 * The content of a configuration file, a list or a single plugin.
 * @param pluginsOf the further plugins of a network, which a list has in a directory of the network's name (CNI 1.1)
 * @throws RuntimeError failed-precondition saying what is wrong, without the file's name
 */
export const parseNetworkConfig = (
  file: string,
  text: string,
  pluginsOf: (network: string) => unknown[] = () => [],
): NetworkConfig => {
  const json = parsedJson(text)
  const content = checked(FileContent, json)
  const { name, plugins, type, disableCheck, disableGC, loadOnlyInlinedPlugins } = content
  const isSingle = plugins === undefined && type !== undefined
  const further = isSingle || loadOnlyInlinedPlugins || !NETWORK_NAME.test(name) ? [] : pluginsOf(name)
  return checked(NetworkConfig, {
    file,
    name,
    cniVersion: chooseVersion(content),
    disableCheck,
    disableGC,
    plugins: isSingle ? [json] : [...(plugins ?? []), ...further],
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

/** Whether the network speaks CNI 1.1, which has STATUS and GC. */
export const isVersion11 = ({ cniVersion }: NetworkConfig): boolean => cniVersion === '1.1.0'

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

/** The plugin files in directories beside the configurations, as paths below `configDir`. */
export const pluginFiles = (configDir: string): string[] => {
  try {
    return readdirSync(configDir, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
      .flatMap(({ name }) => pluginFilesOf(configDir, name))
      .sort()
  } catch {
    return []
  }
}

const pluginFilesOf = (configDir: string, network: string): string[] => {
  try {
    return readdirSync(join(configDir, network))
      .filter((name) => extname(name) === '.conf' && !name.startsWith('.'))
      .sort()
      .map((name) => join(network, name))
  } catch {
    return []
  }
}

const readPlugins = (configDir: string, network: string): unknown[] =>
  pluginFilesOf(configDir, network).map((name) => parsedJson(readBounded(join(configDir, name))))

/** Looks for the pod network in the directory. Never throws: a broken file is passed over and its reason kept. */
export const scanConfigDir = (configDir: string): ConfigScan => {
  const skipped: ConfigScan['skipped'] = []
  for (const name of configFiles(configDir)) {
    const file = join(configDir, name)
    try {
      return {
        config: parseNetworkConfig(file, readBounded(file), (network) => readPlugins(configDir, network)),
        skipped,
      }
    } catch (error) {
      skipped.push({ file, reason: error instanceof Error ? error.message : String(error) })
    }
  }
  return { config: undefined, skipped }
}
