/**
 * The command `cricket`: `serve` is the daemon, the other words tell about it. What a word needs is loaded when it is said: most of this program
 * is the daemon's, and reading it takes longer than what most words do.
 */
import { messageOf, RuntimeError } from '#proto/errors.ts'
import { type CommandLine, parseFlags } from './config/flags.ts'
import { API_VERSION, RUNTIME_NAME, VERSION } from './version.ts'

const usage = `cricket ${VERSION}: a container runtime for Kubernetes and nothing else

  cricket serve    run the daemon
  cricket config   print the configuration in effect; --default: the defaults, explained
  cricket ops      list what a running daemon is busy with, by stage
  cricket image explain REFERENCE [NAMESPACE]
                   tell which servers a pull would ask, in which order, and with whose credentials
  cricket image load FILE
                   have the running daemon load images out of an OCI layout (directory or archive) or what "docker save"
                   writes, compressed or not; --name NAME: for one without a name; --pin: never to be removed for room
  cricket check    look at records, layers and blobs for damage, beside a running daemon or without one;
                   --repair: put aside what is damaged, so that it is fetched again; --json: for programs
  cricket wipe     remove all images, layers and records of pods, after asking; --yes: without asking
  cricket version  print the version; --json: for programs

Flags of serve, config, ops, image, check and wipe:
  --config FILE    the configuration file (/etc/cricket/config.yaml); drop-ins lie beside it in config.d/*.yaml
  --root DIR       what survives a reboot: images, layers, records
  --state DIR      what does not: sockets, bundles, namespaces
  --listen SOCKET  the CRI socket
  --log-level L    debug, info, warn or error
`

type Command = (line: CommandLine) => void | Promise<void>

interface Word {
  readonly switches: readonly string[]
  /** Flags with a value of its own. */
  readonly values?: readonly string[]
  /** How many words that are no flags. */
  readonly positionals?: number
  readonly run: Command
}

const commands: Record<string, Word> = {
  serve: { switches: [], run: async (line) => (await import('./serve.ts')).serve(line) },
  config: {
    switches: ['default'],
    run: async ({ flags, switches }) => {
      const { renderConfig, renderDefaultConfig } = await import('./config/document.ts')
      print(switches.has('default') ? renderDefaultConfig() : renderConfig(await readConfig(flags)))
    },
  },
  ops: {
    switches: [],
    run: async ({ flags }) => {
      const { operationsTable } = await import('./cri/ops-client.ts')
      print(await operationsTable((await readConfig(flags)).listen))
    },
  },
  image: {
    switches: ['pin'],
    values: ['name'],
    positionals: 3,
    run: async (line) => print(await (await import('./about-image.ts')).aboutImage(line)),
  },
  check: {
    switches: ['repair', 'json'],
    run: async (line) => print(await (await import('./check/check-command.ts')).checkCommand(line)),
  },
  wipe: {
    switches: ['yes'],
    run: async (line) => print(await (await import('./check/wipe-command.ts')).wipeCommand(line)),
  },
  // For the daemon's own use.
  relabel: { switches: [], run: async () => (await import('./selinux/relabel-command.ts')).relabelCommand() },
  version: {
    switches: ['json'],
    run: ({ switches }) => print(switches.has('json') ? versionJson() : `cricket ${VERSION}\n`),
  },
}

const readConfig = async (flags: CommandLine['flags']) => (await import('./config/load.ts')).loadConfig({ flags })

const print = (text: string): void => void process.stdout.write(text)

const versionJson = (): string =>
  `${JSON.stringify({
    name: RUNTIME_NAME,
    version: VERSION,
    criApiVersion: API_VERSION,
    kubernetes: VERSION.split('.').slice(0, 2).join('.'),
    node: process.versions.node,
  })}\n`

async function main([word = 'help', ...args]: readonly string[]): Promise<void> {
  if (['help', '--help', '-h'].includes(word)) return print(usage)
  const command = commands[word]
  if (!command) throw new RuntimeError('invalid-argument', `Unknown command "${word}"; "cricket help" lists them`)
  const { switches, values = [], positionals = 0 } = command
  await command.run(parseFlags(args, { switches, values, positionals }))
}

main(process.argv.slice(2)).catch((error) => {
  process.stderr.write(`cricket: ${messageOf(error)}\n`)
  process.exit(error instanceof RuntimeError && error.kind === 'invalid-argument' ? 2 : 1)
})
