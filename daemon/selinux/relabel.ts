/** Relabels the volumes of a container, in a helper process that is killed when it gets no further. */
import type { Linux } from '#linux/linux.ts'
import { isKind, RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { impossible, quoted } from '../oci/spec/refuse.ts'
import type { LabelTree } from './label-tree.ts'
import { RelabelReport } from './relabel-command.ts'

export interface Relabelling {
  readonly linux: Pick<Linux, 'runCommand'>
  readonly log: Log
  /** The program that is the helper, with its arguments. */
  readonly helper?: readonly [string, ...string[]]
  /** How long it may go without a word; it says one every second while it gets on. */
  readonly silenceMs?: number
  readonly signal?: AbortSignal
}

/** This program, by another word. */
const OWN_HELPER: readonly [string, ...string[]] = [process.execPath, process.argv[1] ?? '', 'relabel']
const SILENCE_MS = 60_000

/**
 * What an earlier attempt did stays done, so a repeat gets further.
 * @throws RuntimeError failed-precondition naming the tree, deadline-exceeded when a file system does not answer
 */
export async function relabel(trees: readonly LabelTree[], options: Relabelling): Promise<void> {
  if (trees.length === 0) return
  const { linux, log, silenceMs = SILENCE_MS, helper: [program, ...args] = OWN_HELPER, signal } = options
  const watch = new Watch(trees, log)
  try {
    const { exit, stderr } = await linux.runCommand(program, args, {
      input: JSON.stringify({ trees }),
      onStdout: (chunk) => watch.read(chunk),
      silenceMs,
      ...(signal && { signal }),
    })
    watch.finish(exit.how === 'exited' && exit.code === 0 ? undefined : stderr.toString())
  } catch (error) {
    if (!isKind(error, 'deadline-exceeded')) throw error
    throw new RuntimeError('deadline-exceeded', `Cannot relabel ${quoted(watch.path)}: nothing moves there`, {
      cause: error,
    })
  }
}

/** Puts together what the helper says. */
class Watch {
  readonly #trees: readonly LabelTree[]
  readonly #log: Log
  #rest = ''
  #done = 0
  #failure: RuntimeError | undefined

  constructor(trees: readonly LabelTree[], log: Log) {
    this.#trees = trees
    this.#log = log
  }

  /** Of the tree that it is at. */
  get path(): string {
    return this.#trees[this.#done]?.path ?? ''
  }

  read(chunk: Buffer): void {
    const lines = (this.#rest + chunk.toString()).split('\n')
    this.#rest = lines.pop() ?? ''
    for (const line of lines) this.#take(RelabelReport.parse(JSON.parse(line)))
  }

  #take(report: RelabelReport): void {
    const { path } = this
    if (report.report === 'failed') {
      this.#failure = impossible(`Cannot relabel ${quoted(path)}: ${report.message}`)
      return
    }
    const { seen, changed } = report
    if (report.report === 'progress') this.#log.info('Relabelling', { path, seen, changed })
    else if (changed > 0) this.#log.info('Relabelled', { path, seen, changed })
    if (report.report === 'done') this.#done++
  }

  /** @param complaint of a helper that did not end well */
  finish(complaint: string | undefined): void {
    if (this.#failure) throw this.#failure
    if (complaint === undefined && this.#done === this.#trees.length) return
    throw new RuntimeError('internal', `Cannot relabel ${quoted(this.path)}: the helper failed: ${complaint ?? ''}`)
  }
}
