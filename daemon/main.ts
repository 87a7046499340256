/** The command `cricket`: `serve` is the daemon, the other words tell about it. */
import { linux } from '#linux/linux.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import { aboutImage } from './about-image.ts'
import { checkCommand } from './check/check-command.ts'
import { wipeCommand } from './check/wipe-command.ts'
import { renderConfig, renderDefaultConfig } from './config/document.ts'
import { type CommandLine, parseFlags } from './config/flags.ts'
import { loadConfig } from './config/load.ts'
import { LiveConfig } from './config/reload.ts'
import { operationsTable } from './cri/ops-client.ts'
import { startDaemon } from './daemon.ts'
import { giveBackMemory } from './give-back-memory.ts'
import { createLog } from './logging.ts'
import { connectSupervisor } from './notify.ts'
import { crashPoint } from './operations/crash-point.ts'
import { adoptOrphans } from './reap-orphans.ts'
import { relabelCommand } from './selinux/relabel-command.ts'
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
  serve: { switches: [], run: serve },
  config: {
    switches: ['default'],
    run: ({ flags, switches }) =>
      print(switches.has('default') ? renderDefaultConfig() : renderConfig(loadConfig({ flags }))),
  },
  ops: {
    switches: [],
    run: async ({ flags }) => print(await operationsTable(loadConfig({ flags }).listen)),
  },
  image: { switches: ['pin'], values: ['name'], positionals: 3, run: async (line) => print(await aboutImage(line)) },
  check: { switches: ['repair', 'json'], run: async (line) => print(await checkCommand(line)) },
  wipe: { switches: ['yes'], run: async (line) => print(await wipeCommand(line)) },
  // For the daemon's own use.
  relabel: { switches: [], run: relabelCommand },
  version: {
    switches: ['json'],
    run: ({ switches }) => print(switches.has('json') ? versionJson() : `cricket ${VERSION}\n`),
  },
}

const print = (text: string): void => void process.stdout.write(text)

const versionJson = (): string =>
  `${JSON.stringify({
    name: RUNTIME_NAME,
    version: VERSION,
    criApiVersion: API_VERSION,
    kubernetes: VERSION.split('.').slice(0, 2).join('.'),
    node: process.versions.node,
  })}\n`

async function serve({ flags }: CommandLine): Promise<void> {
  const config = loadConfig({ flags })
  const log = createLog({ level: config.logLevel })
  // A fault outside of any call must not go on in an unknown state; all that matters is on disk, a restart is cheap.
  process.on('uncaughtException', (error) => {
    log.error('Ending after a fault', { error })
    process.exit(70)
  })
  // Containers inherit it, and read files that we make for them. What is secret is written with a mode of its own.
  process.umask(0o022)
  // Whatever the caller left open is not for our children.
  linux.setAllCloexec()
  const children = adoptOrphans(linux)
  let live: LiveConfig | undefined
  // Before the start is over there is nothing to reload: what is read then is what would be read again.
  process.on('SIGHUP', () => void live?.reload())
  const die = () => process.kill(process.pid, 'SIGKILL')
  const supervisor = connectSupervisor(process.env, log)
  // From the first moment: whoever asks for the end while we start gets an orderly one.
  const asked = terminated()
  const daemon = await startDaemon(config, log, children, crashPoint(process.env.CRICKET_CRASH_POINT, die))
  live = new LiveConfig({
    config,
    load: () => loadConfig({ flags }),
    followers: { ...daemon.followers, setLogLevel: (level) => log.setLevel(level) },
    log,
  })
  giveBackMemory()
  supervisor.ready()
  await asked
  supervisor.stopping()
  await daemon.close()
  process.exit(0)
}

const terminated = (): Promise<unknown> =>
  Promise.race(['SIGTERM', 'SIGINT'].map((signal) => new Promise((resolve) => process.once(signal, resolve))))

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
