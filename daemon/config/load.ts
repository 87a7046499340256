/**
 * From the configuration file, its drop-ins and the flags to one checked Config. Later ones win: defaults, file,
 * drop-ins by name, flags. All that is wrong anywhere is reported at once.
 */
import { accessSync, constants, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { RuntimeError } from '#proto/errors.ts'
import type { Flags } from './flags.ts'
import { type KeyPath, misfits, misfitText, type Problem } from './problems.ts'
import { PROGRAM_DIRS } from './runtimes.ts'
import { type Config, ConfigFile } from './schema.ts'
import { isLoopback } from './streaming.ts'
import { readYamlFile, type YamlFile, type YamlRead } from './yaml-file.ts'

export const DEFAULT_CONFIG_FILE = '/etc/cricket/config.yaml'

const DROP_IN_DIR = 'config.d'

const DEFAULT_HANDLER = 'runc'

export interface LoadOptions {
  /** The file named by --config, which must exist. Not given: the default file, which may be absent. */
  file?: string | undefined
  flags?: Flags
  /** For tests: the default file to use instead of /etc/cricket/config.yaml. */
  defaultFile?: string
}

type Tree = Record<string, unknown>

const isTree = (value: unknown): value is Tree => typeof value === 'object' && value !== null && !Array.isArray(value)

/** Puts `over` on top of `under`: mappings are merged, anything else replaces. An empty section changes nothing. */
const mergeTrees = (under: Tree, over: Tree): Tree => {
  const merged = new Map(Object.entries(under))
  for (const [key, value] of Object.entries(over)) {
    if (value === null || value === undefined) continue
    const below = merged.get(key)
    merged.set(key, isTree(value) && isTree(below) ? mergeTrees(below, value) : value)
  }
  return Object.fromEntries(merged)
}

const dropIns = (file: string): string[] => {
  const dir = join(dirname(file), DROP_IN_DIR)
  try {
    const names = readdirSync(dir).filter((name) => name.endsWith('.yaml') && !name.startsWith('.'))
    return names.sort().map((name) => join(dir, name))
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return []
    throw new RuntimeError('invalid-argument', `Cannot list the drop-ins in "${dir}"`, { cause: error })
  }
}

const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unreadable'

const readOne = (file: string, mayBeAbsent: boolean): YamlRead | undefined => {
  try {
    return readYamlFile(file)
  } catch (error) {
    const code = codeOf(error)
    if (code === 'ENOENT' && mayBeAbsent) return undefined
    const why =
      code === 'ENOENT' ? 'does not exist' : `cannot be read: ${error instanceof Error ? error.message : error}`
    return { ok: false, problems: [{ where: file, what: why }] }
  }
}

const problemsOfFile = (file: YamlFile): Problem[] =>
  misfits(file.data).map((misfit) => ({ where: file.place(misfit.path), what: misfitText(misfit) }))

interface ReadFiles {
  files: YamlFile[]
  problems: Problem[]
}

const readFiles = (options: LoadOptions): ReadFiles => {
  const main = options.file ?? options.flags?.config
  const mainFile = main ?? options.defaultFile ?? DEFAULT_CONFIG_FILE
  const reads = [readOne(mainFile, main === undefined), ...dropIns(mainFile).map((file) => readOne(file, true))]
  const files: YamlFile[] = []
  const problems: Problem[] = []
  for (const read of reads) {
    if (read === undefined) continue
    if (!read.ok) problems.push(...read.problems)
    else {
      files.push(read.value)
      problems.push(...problemsOfFile(read.value))
    }
  }
  return { files, problems }
}

const flagNames: Record<string, string> = {
  root: '--root',
  state: '--state',
  listen: '--listen',
  logLevel: '--log-level',
}

const flagTree = ({ config: _, ...keys }: Flags): Tree => ({ ...keys })

const problemsOfFlags = (flags: Flags): Problem[] =>
  misfits(flagTree(flags)).map((misfit) => ({
    where: `flag ${flagNames[String(misfit.path[0])] ?? misfit.path[0]}`,
    what: misfitText(misfit),
  }))

const isExecutable = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

const findProgram = (name: string): string | undefined => PROGRAM_DIRS.map((dir) => join(dir, name)).find(isExecutable)

type Handlers = Config['runtimes']['handlers']
type Complain = (path: KeyPath, what: string) => void

const resolveHandlers = (file: ConfigFile, complain: Complain): Handlers => {
  const listed: Record<string, ConfigFile['runtimes']['handlers'][string]> = { ...file.runtimes.handlers }
  if (file.runtimes.default === DEFAULT_HANDLER) listed[DEFAULT_HANDLER] ??= {}
  const handlers: Handlers = {}
  for (const [name, { path, root, ...rest }] of Object.entries(listed)) {
    // The default handler may be installed later; any other name without a program is most likely a misspelling.
    const program = path ?? findProgram(name) ?? (name === DEFAULT_HANDLER ? join(PROGRAM_DIRS[0], name) : undefined)
    if (program === undefined) {
      complain(
        ['runtimes', 'handlers', name],
        `needs a "path": there is no program "${name}" in ${PROGRAM_DIRS.join(', ')}`,
      )
    } else handlers[name] = { path: program, root: root ?? join(file.state, name), ...rest }
  }
  return handlers
}

const checkStreaming = ({ address, tls }: ConfigFile['streaming'], complain: Complain): void => {
  if (!isLoopback(address) && !tls.enabled) {
    complain(['streaming', 'address'], `may be ${JSON.stringify(address)} only with "streaming.tls.enabled"`)
  }
  if ((tls.certFile === undefined) !== (tls.keyFile === undefined)) {
    const [there, missing] = tls.certFile === undefined ? ['keyFile', 'certFile'] : ['certFile', 'keyFile']
    complain(['streaming', 'tls', there ?? ''], `needs "streaming.tls.${missing}" beside it`)
  }
}

const resolve = (file: ConfigFile, complain: Complain): Config => {
  const handlers = resolveHandlers(file, complain)
  const { default: handler, handlers: listed } = file.runtimes
  if (handlers[handler] === undefined && listed[handler] === undefined) {
    const names = Object.keys(handlers).map((name) => JSON.stringify(name))
    complain(
      ['runtimes', 'default'],
      `must be one of the handlers (${names.join(', ') || 'there are none'}), not ${JSON.stringify(handler)}`,
    )
  }
  if (file.root === file.state) {
    complain(['state'], `must not be the same directory as "root", which is ${JSON.stringify(file.root)}`)
  }
  checkStreaming(file.streaming, complain)
  const { root, state, listen, ...rest } = file
  return {
    root,
    state,
    listen: listen ?? join(state, 'cricket.sock'),
    ...rest,
    runtimes: { default: handler, handlers },
  }
}

const failWith = (problems: readonly Problem[]): void => {
  if (problems.length === 0) return
  const lines = problems.map(({ where, what }) => `${where}: ${what}`)
  const list = lines.length === 1 ? ` ${lines[0]}` : lines.map((line) => `\n  ${line}`).join('')
  throw new RuntimeError('invalid-argument', `Cannot use the configuration:${list}`)
}

/** The configuration of a host where nothing is configured. */
export const defaultConfig = (): Config => resolve(ConfigFile.parse({}), () => {})

/**
 * Reads and checks everything.
 * @throws RuntimeError invalid-argument listing every problem with its file and line, or flag
 */
export const loadConfig = (options: LoadOptions = {}): Config => {
  const flags = options.flags ?? {}
  const { files, problems } = readFiles(options)
  problems.push(...problemsOfFlags(flags))
  failWith(problems)
  const merged = [...files.map((file) => file.data), flagTree(flags)].reduce(mergeTrees, {})
  const config = resolve(ConfigFile.parse(merged), (path, what) => {
    const last = files.findLast((file) => file.has(path))
    problems.push({ where: last?.place(path) ?? 'configuration', what: misfitText({ path, what }) })
  })
  failWith(problems)
  return config
}
