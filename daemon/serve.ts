/** `cricket serve`: the process of the daemon, from its first moment to its end. */
import { linux } from '#linux/linux.ts'
import type { CommandLine } from './config/flags.ts'
import { loadConfig } from './config/load.ts'
import { LiveConfig } from './config/reload.ts'
import { startDaemon } from './daemon.ts'
import { giveBackMemory } from './give-back-memory.ts'
import { createLog } from './logging.ts'
import { connectSupervisor } from './notify.ts'
import { crashPoint } from './operations/crash-point.ts'
import { adoptOrphans } from './reap-orphans.ts'

/** Ends the process when it is asked to. */
export async function serve({ flags }: CommandLine): Promise<void> {
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
  giveBackMemory(daemon)
  supervisor.ready()
  await asked
  supervisor.stopping()
  await daemon.close()
  process.exit(0)
}

const terminated = (): Promise<unknown> =>
  Promise.race(['SIGTERM', 'SIGINT'].map((signal) => new Promise((resolve) => process.once(signal, resolve))))
