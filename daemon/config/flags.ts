/** The command line of the daemon: the few keys that can be set there, and where the configuration file is. */
import { parseArgs } from 'node:util'
import { RuntimeError } from '#proto/errors.ts'

/** The flags that take a value, as they were given. Checked by loadConfig together with the files. */
export interface Flags {
  config?: string
  root?: string
  state?: string
  listen?: string
  logLevel?: string
}

export interface CommandLine {
  flags: Flags
  /** Which of the allowed switches were given, without their dashes. */
  switches: ReadonlySet<string>
  /** What was given to the flags with a value that only this command has, without their dashes. */
  values: Readonly<Record<string, string>>
  positionals: string[]
}

const VALUE_FLAGS: Record<string, keyof Flags> = {
  config: 'config',
  root: 'root',
  state: 'state',
  listen: 'listen',
  'log-level': 'logLevel',
}

export interface AllowedArguments {
  /** Flags without a value that this command knows, such as `default` for `cricket config --default`. */
  switches?: readonly string[]
  /** Flags with a value that only this command knows. */
  values?: readonly string[]
  /** How many words that are no flags this command takes at most. */
  positionals?: number
}

type Token = NonNullable<ReturnType<typeof parseArgs>['tokens']>[number]

const tokensOf = (args: readonly string[], switches: readonly string[], values: readonly string[]): Token[] => {
  const options = Object.fromEntries([
    ...[...Object.keys(VALUE_FLAGS), ...values].map((name) => [name, { type: 'string' }] as const),
    ...switches.map((name) => [name, { type: 'boolean' }] as const),
  ])
  // Not strict: parseArgs would throw at the first wrong word, and in its own language.
  return parseArgs({ args: [...args], options, strict: false, allowPositionals: true, tokens: true }).tokens
}

type OptionToken = Extract<Token, { kind: 'option' }>

/** Not strict, parseArgs takes the next word as the value even when that is a flag: `--config --root /x`. */
const isMissing = ({ value, inlineValue }: OptionToken): boolean =>
  value === undefined || value === '' || (inlineValue === false && value.startsWith('-'))

const failWith = (problems: readonly string[]): void => {
  if (problems.length > 0)
    throw new RuntimeError('invalid-argument', `Cannot read the command line: ${problems.join('; ')}`)
}

/**
 * Reads the words behind the command name; `--root X` and `--root=X` mean the same, the last one wins.
 * @throws RuntimeError invalid-argument naming every word that is not understood
 */
export const parseFlags = (args: readonly string[], allowed: AllowedArguments = {}): CommandLine => {
  const { switches = [], values = [] } = allowed
  const known = [...Object.keys(VALUE_FLAGS), ...values, ...switches].map((name) => `--${name}`)
  const flags: Flags = {}
  const own = new Map<string, string>()
  const given = new Set<string>()
  const positionals: string[] = []
  const problems: string[] = []
  /** A flag that takes a value, which somebody keeps. */
  const takeValue = (token: OptionToken, keep: (value: string) => void): void => {
    if (isMissing(token)) problems.push(`${token.rawName} needs a value`)
    else keep(token.value ?? '')
  }
  const takeOption = (token: OptionToken): void => {
    const key = VALUE_FLAGS[token.name]
    if (key !== undefined && token.rawName.startsWith('--')) {
      takeValue(token, (value) => {
        flags[key] = value
      })
    } else if (values.includes(token.name)) takeValue(token, (value) => void own.set(token.name, value))
    else if (switches.includes(token.name)) {
      if (token.value !== undefined) problems.push(`${token.rawName} takes no value`)
      given.add(token.name)
    } else problems.push(`unknown flag "${token.rawName}", known are ${known.join(', ')}`)
  }
  for (const token of tokensOf(args, switches, values)) {
    if (token.kind === 'positional') positionals.push(token.value)
    if (token.kind === 'option') takeOption(token)
  }
  for (const word of positionals.slice(allowed.positionals ?? 0)) problems.push(`unexpected word "${word}"`)
  failWith(problems)
  return { flags, switches: given, values: Object.fromEntries(own), positionals }
}
