/**
 * What is to be done with output while the log's disk does not answer: some of it is kept, then the container waits, as busy disks come back
 * after seconds; when it has waited long enough, or has ended, output is lost and counted.
 */

/** Then the container waits. */
const heldBytes = 1024 * 1024
/** What is in the pipes of a container that has ended fits besides. */
const mostBytes = 2 * heldBytes
const patienceMs = 10_000
/** What a batch costs besides its bytes, roughly. */
const batchCost = 512

export class Backlog {
  /** Told when output should not be read any more, and when it should again. */
  onHold: (hold: boolean) => void = () => {}
  /** Bytes of the container that are neither in the file nor counted as lost. */
  unwritten = 0
  readonly #onImpatient: () => void
  #bytes = 0
  #dropped = 0
  #held = false
  #patient = true
  #patience: NodeJS.Timeout | undefined
  #ended = false

  /** @param onImpatient is told when output begins to be lost */
  constructor(onImpatient: () => void) {
    this.#onImpatient = onImpatient
  }

  /** Whether a batch with `content` bytes of the container is to be kept; otherwise it is lost. */
  take(bytes: number, content: number): boolean {
    this.#patience ??= setTimeout(() => this.#loseFromNowOn(), patienceMs)
    // What comes behind something lost is lost too, or there would be many gaps.
    if (this.#dropped > 0 || this.#bytes + bytes > mostBytes) {
      if (this.#dropped === 0) this.#onImpatient()
      this.#dropped += content
      return false
    }
    this.unwritten += content
    this.#bytes += bytes + batchCost
    if (this.#patient && this.#bytes > heldBytes) this.#hold(true)
    return true
  }

  /** A batch that was kept is being written. */
  give(bytes: number): void {
    this.#bytes -= bytes + batchCost
  }

  /** When nothing is kept any more: how many bytes were lost behind what was. All is well again then. */
  settle(): number {
    if (this.#patience === undefined || this.#bytes > 0) return 0
    clearTimeout(this.#patience)
    this.#patience = undefined
    const dropped = this.#dropped
    this.#dropped = 0
    this.#patient = !this.#ended
    this.#hold(false)
    return dropped
  }

  /** The container has ended: nobody is left who could wait. */
  hurry(): void {
    this.#ended = true
    this.#loseFromNowOn()
  }

  close(): void {
    clearTimeout(this.#patience)
  }

  #loseFromNowOn(): void {
    this.#patient = false
    this.#hold(false)
  }

  #hold(hold: boolean): void {
    if (hold === this.#held) return
    this.#held = hold
    this.onHold(hold)
  }
}
