/**
 * How many files what the monitor starts may have open. Its engine has raised the soft limit to the hard one; a container that
 * inherited that would, for instance, close a billion descriptors one by one.
 */
import { openFilesLimit, setOpenFilesLimit } from '#linux/rlimit.ts'

/** What systemd gives services, and select(2) can watch. */
const usual = 1024

export class OpenFiles {
  readonly #soft: bigint

  constructor(soft: number = usual) {
    this.#soft = BigInt(soft)
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
