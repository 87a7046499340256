/** An undo list for changes of several steps. Undo steps never throw out of it: what cannot be undone is reported and left to the sweeper. */

/**
 * `await using rollback = new Rollback(report)`, one `defer` per step done, `keep()` at the end.
 * A throwing disposer would replace the real error by a SuppressedError, so failures only go to `leftBehind`.
 */
export class Rollback implements AsyncDisposable {
  #steps: { what: string; undo: () => unknown }[] = []
  readonly #leftBehind: (what: string, cause: unknown) => void

  constructor(leftBehind: (what: string, cause: unknown) => void) {
    this.#leftBehind = leftBehind
  }

  /** Registers how to undo a step that has been done; undone last first. */
  defer(what: string, undo: () => unknown): void {
    this.#steps.push({ what, undo })
  }

  /** Everything worked: nothing will be undone. */
  keep(): void {
    this.#steps = []
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { what, undo } of this.#steps.splice(0).reverse()) {
      try {
        await undo()
      } catch (cause) {
        this.#leftBehind(what, cause)
      }
    }
  }
}
