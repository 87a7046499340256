/**
 * How many files what the monitor starts may have open. Its engine has raised the soft limit to the hard one, and runtimes in Go do the
 * same to theirs; a container that inherited that would, for instance, close a billion descriptors one by one.
 */
import { openFilesLimit, setOpenFilesLimit } from '#linux/rlimit.ts'

/** What systemd gives services, and select(2) can watch. */
const usual = 1024

export class OpenFiles {
  /** What the runtime starts with. */
  readonly forChild: number
  readonly #isWanted: boolean

  /** @param soft the limit; when not given, the usual one for the runtime, and what the runtime makes of it for the container */
  constructor(soft: number | undefined) {
    this.forChild = soft ?? usual
    this.#isWanted = soft !== undefined
  }

  /** To be called before the container's program runs: undoes what the runtime has raised by itself, if a limit is wanted. */
  restoreFor(init: number): void {
    if (!this.#isWanted) return
    const limit = openFilesLimit(init)
    const wanted = BigInt(this.forChild)
    if (limit.soft !== limit.hard || limit.soft <= wanted || limit.hard !== openFilesLimit().hard) return
    setOpenFilesLimit({ ...limit, soft: wanted }, init)
  }
}
