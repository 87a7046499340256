/**
 * The gate: build, types, lint, generated code, unused code, unit tests, end-to-end tests. Prints what failed and ends
 * with one line, `N passed, N failed, N skipped`, in which every check and every test counts as one. Words on the
 * command line select tests whose path contains one of them; the checks run all the same.
 */

import { spawn } from 'node:child_process'
import { globSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { run } from 'node:test'
import { inspect } from 'node:util'

const top = resolve(import.meta.dirname, '..')
process.chdir(top)
// Sources run as they are: compiled once, they load four times faster.
process.env.NODE_COMPILE_CACHE ??= join(top, 'node_modules/.cache/compile')

const total = { passed: 0, failed: 0, skipped: 0 }
const skips: string[] = []

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`
const indent = (text: string): string => text.trimEnd().replaceAll(/^/gm, '    ')

interface Check {
  name: string
  command: string[]
}

const program = (name: string) => join(top, 'node_modules/.bin', name)
const BUILD: Check = { name: 'build', command: [process.execPath, '.ci/build.ts'] }
const CHECKS: Check[] = [
  { name: 'types', command: [program('tsc'), '--noEmit'] },
  { name: 'lint', command: [program('biome'), 'check', '--error-on-warnings', '.'] },
  { name: 'generated code is current', command: [process.execPath, 'proto/generate.ts', '--check'] },
  { name: 'nothing is cleaned up under a promise', command: [process.execPath, '.ci/check-returns.ts'] },
  { name: 'no unused code', command: [program('knip'), '--no-progress'] },
]

/** Runs a program to its end, shows its output only when it failed, and counts it. */
async function check({ name, command }: Check): Promise<boolean> {
  const begin = performance.now()
  const [file = '', ...args] = command
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text))
  const code = await new Promise<number | null>((done) => child.on('close', done).on('error', () => done(null)))
  const good = code === 0
  total[good ? 'passed' : 'failed']++
  console.log(`${good ? '✔' : '✖'} ${name} (${seconds(performance.now() - begin)})`)
  if (!good) console.log(indent(output || `exit status ${code}`))
  return good
}

/** Long enough for a slow machine; a file that hangs longer is ended and counts as failed. */
const FILE_TIMEOUT_MS = 1_500_000

/** Runs test files, each in a process of its own, and prints a line per file, its failures and its figures below. */
async function testFiles(name: string, files: string[], concurrency: number): Promise<void> {
  if (files.length === 0) return
  const begin = performance.now()
  console.log(`\n${name}: ${files.length} files`)
  const rest = files.values()
  const worker = async () => {
    for (const file of rest) await testFile(file)
  }
  await Promise.all(Array.from({ length: concurrency }, worker))
  console.log(`${name}: ${seconds(performance.now() - begin)}`)
}

async function testFile(file: string): Promise<void> {
  const begin = performance.now()
  const result = new FileResult(file)
  for await (const event of run({ files: [join(top, file)], signal: AbortSignal.timeout(FILE_TIMEOUT_MS) })) {
    result.add(event)
  }
  result.print(performance.now() - begin)
  for (const word of ['passed', 'failed', 'skipped'] as const) total[word] += result.counts[word]
}

type RunnerEvent = ReturnType<typeof run> extends AsyncIterable<infer Event> ? Event : never

/** What the runner said about one file, and what to print of it. */
class FileResult {
  readonly counts = { passed: 0, failed: 0, skipped: 0 }
  readonly #file: string
  readonly #lines: string[] = []
  #output = ''

  constructor(file: string) {
    this.#file = file
  }

  add({ type, data }: RunnerEvent): void {
    if (type === 'test:pass') this.#passed(data)
    else if (type === 'test:fail') this.#failed(data)
    else if (type === 'test:stdout' || type === 'test:stderr') this.#output += data.message
    else if (type === 'test:diagnostic' && isFigure(data)) this.#lines.push(`ℹ ${data.message}`)
  }

  #passed({ name, skip, todo, details }: Extract<RunnerEvent, { type: 'test:pass' }>['data']): void {
    if (details.type === 'suite' && skip === undefined) return
    const reason = skip ?? todo
    this.counts[reason === undefined ? 'passed' : 'skipped']++
    if (reason !== undefined) skips.push(`${this.#file}: ${name}: ${reason === true ? 'no reason given' : reason}`)
  }

  #failed({ name, line, details: { error } }: Extract<RunnerEvent, { type: 'test:fail' }>['data']): void {
    // It failed only because something in it did, which was counted already.
    if ('failureType' in error && error.failureType === 'subtestsFailed') return
    this.counts.failed++
    // When the whole file failed (it ended early, or hung) there is only the runner's own error.
    const cause = error.cause instanceof Error ? error.cause : error
    this.#lines.push(`✖ ${name} (${this.#file}:${line ?? 0})`, indent(inspect(cause, { depth: 4 })))
  }

  print(ms: number): void {
    const { failed } = this.counts
    const words = Object.entries(this.counts).filter(([word, count]) => count > 0 || word === 'passed')
    const summary = words.map(([word, count]) => `${count} ${word}`).join(', ')
    console.log(`${failed ? '✖' : '✔'} ${this.#file}: ${summary} (${seconds(ms)})`)
    for (const line of this.#lines) console.log(indent(line))
    if (failed && this.#output) console.log(indent(`output:\n${this.#output.slice(-20_000)}`))
  }
}

/** A test's own diagnostic, or the runner's warning; not the runner's summary. */
const isFigure = ({ file, nesting, level }: Extract<RunnerEvent, { type: 'test:diagnostic' }>['data']): boolean =>
  (file !== undefined && nesting > 0) || level !== 'info'

const wanted = process.argv.slice(2)
const selected = (pattern: string): string[] =>
  globSync(pattern, { exclude: ['e2e/vm/**'] })
    .filter((file) => wanted.length === 0 || wanted.some((word) => file.includes(word)))
    .sort()

const begin = performance.now()
const built = await check(BUILD)
await Promise.all(CHECKS.map(check))
await testFiles('unit tests', selected('{proto,storage,image,conmon,daemon}/**/*.test.ts'), 2)
if (built) await testFiles('end-to-end tests', selected('e2e/**/*.test.ts'), 1)
else console.log('\nend-to-end tests: not run, there is nothing built')

if (skips.length > 0) console.log(`\nskipped:\n${indent(skips.join('\n'))}`)
console.log(`\n${seconds(performance.now() - begin)}`)
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`)
process.exitCode = total.failed === 0 ? 0 : 1
