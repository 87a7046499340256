/**
 * Makes `dist/` from the sources: two native addons, three bundles, the monitor's executable, the daemon's program.
 * A step whose inputs (contents, compiler, flags) are those of its last run is left out. `--force` runs them all;
 * step names as arguments (`addon`, `cricket`, …) run only those.
 */

import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmod, copyFile, link, mkdir, mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { basename, join, relative, resolve } from 'node:path'
import { promisify } from 'node:util'
import * as esbuild from 'esbuild'

const run = promisify(execFile)
const top = resolve(import.meta.dirname, '..')
const lib = join(top, 'dist/lib')
const bin = join(top, 'dist/bin')
const recordPath = join(top, 'dist/build.json')

/**
 * What the daemon's node is started with; `CRICKET_NODE_FLAGS` in the environment replaces it. Without the optimising
 * compilers it needs a third less memory and a quarter millisecond more per call: docs/decisions/0007.
 */
const DAEMON_NODE_FLAGS = [
  '--max-semi-space-size=2',
  '--max-old-space-size=96',
  '--no-opt',
  '--no-maglev',
  '--disable-proto=delete',
  // Node would open its inspector on the loopback, for everybody on the node's network.
  '--disable-sigusr1',
  '--unhandled-rejections=strict',
]

/**
 * What the daemon's C library is told: one arena for all threads, as each further one would keep what its thread once
 * needed, and to give back what is free.
 */
const DAEMON_MALLOC = { MALLOC_ARENA_MAX: '1', MALLOC_TRIM_THRESHOLD_: '131072' }

interface Step {
  name: string
  output: string
  /** What the output depends on besides file contents: flags, versions. */
  flags: string
  /** Inputs known before the step runs. A bundle finds the rest itself and returns them from `make`. */
  inputs: string[]
  make(output: string): Promise<string[]>
}

/** Per step: the fingerprint of its last run and the inputs that the fingerprint covers. */
type BuildRecord = Record<string, { fingerprint: string; inputs: string[] }>

const inModules = (path: string) => join(top, 'node_modules', path)
const nodeProgram = process.execPath
const bunProgram = inModules(`@oven/bun-linux-${process.arch === 'arm64' ? 'aarch64' : 'x64'}/bin/bun`)

function addon(): Step {
  const folder = join(top, 'storage/linux/native')
  return {
    name: 'addon',
    output: join(lib, 'sys.node'),
    flags: process.arch,
    inputs: ['sys.c', 'numbers.c', 'build.sh'].map((name) => join(folder, name)),
    async make() {
      await run('sh', [join(folder, 'build.sh')])
      return []
    },
  }
}

/**
 * The native half of node-pty, without node-gyp, which would want the headers of this very node from the internet. Carries its C++
 * library inside; the other half and the binaries for other systems stay where they are: docs/decisions/0012.
 */
function terminalAddon(): Step {
  const folder = inModules('node-pty')
  const source = join(folder, 'src/unix/pty.cc')
  const headers = ['node-api-headers/include', 'node-addon-api'].flatMap((directory) => ['-I', inModules(directory)])
  const versions = ['node-api-headers', 'node-addon-api', 'node-pty'].map((name) => inModules(`${name}/package.json`))
  const compiler = process.env.CXX ?? 'g++'
  const flags = [
    ...['-std=c++17', '-O2', '-D_FORTIFY_SOURCE=2', '-fexceptions', '-fvisibility=hidden', '-shared', '-fPIC', '-s'],
    ...['-DNAPI_CPP_EXCEPTIONS', '-DNODE_GYP_MODULE_NAME=pty', '-static-libstdc++', '-static-libgcc'],
  ]
  return {
    name: 'terminal addon',
    output: join(lib, 'pty.node'),
    flags: [process.arch, compiler, ...flags].join(' '),
    inputs: [source, join(folder, 'LICENSE'), ...versions],
    async make(output) {
      await run(compiler, [...flags, ...headers, '-o', output, source, '-lutil'])
      await copyFile(join(folder, 'LICENSE'), `${output}.LEGAL.txt`)
      return []
    },
  }
}

/** One CommonJS file: it starts in half the time of the modules it is made of. */
function bundle(name: string, entry: string): Step {
  const options = {
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node26',
    minify: true,
    sourcemap: 'external',
    legalComments: 'external',
    define: { 'import.meta.dirname': '__dirname', 'import.meta.filename': '__filename' },
    external: ['*.node'],
    // What `ws` loads where it is installed, in our words.
    alias: { bufferutil: join(top, 'daemon/streaming/websocket/buffer-util.ts') },
    metafile: true,
    logLevel: 'silent',
  } satisfies esbuild.BuildOptions
  return {
    name,
    output: join(lib, `${name}.cjs`),
    flags: `esbuild ${esbuild.version} ${JSON.stringify(options)}`,
    inputs: [join(top, entry)],
    async make(output) {
      const result = await esbuild
        .build({ ...options, entryPoints: [join(top, entry)], outfile: output })
        .catch(failure)
      if (result.warnings.length > 0) throw await failure(result)
      return Object.keys(result.metafile.inputs).map((path) => resolve(path))
    },
  }
}

/** esbuild's messages as one error, with file and line. */
async function failure(result: unknown): Promise<never> {
  const isReport = (value: unknown): value is esbuild.BuildFailure =>
    typeof value === 'object' && value !== null && 'errors' in value && 'warnings' in value
  if (!isReport(result)) throw result
  const lines = await esbuild.formatMessages([...result.errors, ...result.warnings], { kind: 'error' })
  throw new Error(lines.join('\n'))
}

/** The monitor as one executable; Bun, because an idle Node costs three times the memory: docs/decisions/0003, 0006. */
function monitor(): Step {
  const flags = ['--compile', '--minify', '--bytecode', '--format=cjs', '--compile-exec-argv=--smol']
  const noConfiguration = ['--no-compile-autoload-dotenv', '--no-compile-autoload-bunfig']
  const source = join(lib, 'conmon.cjs')
  return {
    name: 'conmon executable',
    output: join(bin, 'conmon'),
    flags: [...flags, ...noConfiguration].join(' '),
    inputs: [source, join(bunProgram, '../../package.json')],
    async make(output) {
      await run(bunProgram, ['build', ...flags, ...noConfiguration, source, '--outfile', output], { cwd: lib })
      return []
    },
  }
}

/** The pinned node under its own name, so that the program does not depend on the machine's. */
function daemonNode(): Step {
  return {
    name: 'node',
    output: join(lib, 'node'),
    flags: process.version,
    inputs: [join(nodeProgram, '../../package.json')],
    async make(output) {
      await link(nodeProgram, output).catch(() => copyFile(nodeProgram, output))
      await chmod(output, 0o755)
      return []
    },
  }
}

function daemonProgram(): Step {
  const malloc = Object.entries(DAEMON_MALLOC)
    .map(([name, value]) => `: "\${${name}=${value}}"; export ${name}`)
    .join('\n')
  const script = `#!/bin/sh
# Starts the daemon's bundle with the node beside it, from wherever this file is called or linked.
: "\${CRICKET_NODE_FLAGS=${DAEMON_NODE_FLAGS.join(' ')}}"
${malloc}
lib=$(dirname -- "$(readlink -f -- "$0")")/../lib
# shellcheck disable=SC2086 # a list of words
exec "$lib/node" $CRICKET_NODE_FLAGS "$lib/cricket.cjs" "$@"
`
  return {
    name: 'cricket program',
    output: join(bin, 'cricket'),
    flags: script,
    inputs: [],
    async make(output) {
      await writeFile(output, script, { mode: 0o755 })
      return []
    },
  }
}

/** Hash of flags and of all inputs' contents; undefined when an input is missing, so that the step runs and says so. */
async function fingerprint(step: Step, inputs: string[]): Promise<string | undefined> {
  const hash = createHash('sha256').update(step.flags)
  try {
    for (const path of inputs) hash.update(path).update(await readFile(path))
    return hash.digest('hex')
  } catch {
    return undefined
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}

/** Makes the output beside its place and moves it there: a daemon that runs from `dist/` keeps its old file. */
async function makeStep(step: Step, record: BuildRecord): Promise<void> {
  const scratch = await mkdtemp(join(top, 'dist/.making-'))
  let found: string[]
  try {
    found = await step.make(join(scratch, basename(step.output)))
    for (const extra of ['', '.map', '.LEGAL.txt']) {
      const made = join(scratch, basename(step.output) + extra)
      if (await exists(made)) await rename(made, step.output + extra)
    }
  } finally {
    await rm(scratch, { recursive: true })
  }
  const inputs = found.length > 0 ? found : step.inputs
  record[step.name] = { fingerprint: (await fingerprint(step, inputs)) ?? '', inputs }
}

function say(name: string, result: string, begin: number): void {
  console.log(`build  ${name.padEnd(18)} ${result} (${((performance.now() - begin) / 1000).toFixed(1)} s)`)
}

async function build(names: string[], force: boolean): Promise<void> {
  const steps = [
    addon(),
    terminalAddon(),
    bundle('cricket', 'daemon/main.ts'),
    bundle('resolve-worker', 'daemon/oci/resolve-worker.ts'),
    bundle('tree-worker', 'storage/tar/tree-worker.ts'),
    bundle('unpack-worker', 'storage/tar/unpack-worker.ts'),
    bundle('conmon', 'conmon/main.ts'),
    monitor(),
    daemonNode(),
    daemonProgram(),
  ]
  const unknown = names.filter((name) => !steps.some((step) => step.name === name))
  if (unknown.length > 0)
    throw new Error(`no step '${unknown.join("', '")}', want one of: ${steps.map((s) => s.name).join(', ')}`)
  await mkdir(lib, { recursive: true })
  await mkdir(bin, { recursive: true })
  const record: BuildRecord = await readFile(recordPath, 'utf8').then(JSON.parse, () => ({}))
  for (const step of steps) {
    if (names.length > 0 && !names.includes(step.name)) continue
    const begin = performance.now()
    const last = record[step.name]
    const current = last && (await exists(step.output)) && (await fingerprint(step, last.inputs)) === last.fingerprint
    if (current && !force) continue
    await makeStep(step, record).catch((error) => {
      throw new Error(`step '${step.name}' failed: ${error instanceof Error ? error.message : error}`, { cause: error })
    })
    await writeFile(recordPath, JSON.stringify(record))
    say(step.name, relative(top, step.output), begin)
  }
}

const args = process.argv.slice(2)
const begin = performance.now()
try {
  await build(
    args.filter((arg) => arg !== '--force'),
    args.includes('--force'),
  )
  say('done', 'dist', begin)
} catch (error) {
  console.error(`build: ${error instanceof Error ? error.message : error}`)
  process.exitCode = 1
}
