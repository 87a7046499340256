/**
 * How many files what the monitor starts may have open. Its engine has raised the soft limit to the hard one, and runtimes in Go do the
 * same to theirs; a container that inherited that would, for instance, close a billion descriptors one by one.
 */
import { openFilesLimit, setOpenFilesLimit } from '#linux/rlimit.ts'

/** What systemd gives services, and select(2) can watch. */
const usual = 1024

export class OpenFiles {
  readonly #soft: bigint
  readonly #isWanted: boolean

  /** @param soft the limit; when not given, the usual one for the runtime, and what the runtime makes of it for the container */
  constructor(soft: number | undefined) {
    this.#soft = BigInt(soft ?? usual)
    this.#isWanted = soft !== undefined
  }

  /** To be called before the container's program runs: undoes what the runtime has raised by itself, if a limit is wanted. */
  restoreFor(init: number): void {
    if (!this.#isWanted) return
    const limit = openFilesLimit(init)
    if (limit.soft !== limit.hard || limit.soft <= this.#soft || limit.hard !== openFilesLimit().hard) return
    setOpenFilesLimit({ ...limit, soft: this.#soft }, init)
  }

  /** Runs `spawn`, which starts a process before it returns, with the limit that the process is to have. */
  forChild<T>(spawn: () => T): T {
    const own = openFilesLimit()
    setOpenFilesLimit({ ...own, soft: this.#soft < own.hard ? this.#soft : own.hard })
    try {
      return spawn()
    } finally {
      setOpenFilesLimit(own)
    }
  }
}
