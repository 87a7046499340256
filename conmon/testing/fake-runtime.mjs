/**
 * Behaves like an OCI runtime without containing anything: the command of config.json runs on the host once it is started. For
 * faults that real runtimes show once a year: `<root>/faults.json` says, per verb, what goes wrong.
 *
 *   { "create": { "delayMs", "stderr", "log", "exitCode", "hang", "pidFile", "abandon", "killInit", "killSelf" }, "start": { … }, "delete": { … } }
 */
import { spawn, spawnSync } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

const WITH_VALUE = new Set(['--root', '--log', '--log-format', '--bundle', '-b', '--pid-file', '--console-socket'])

/** Words and `--name value` pairs, as runc takes them. */
function parse(args) {
  const options = { root: '/run/fake-runtime' }
  const words = []
  for (let at = 0; at < args.length; at++) {
    const [name, joined] = args[at].split(/=(.*)/s)
    if (!name.startsWith('-')) words.push(args[at])
    else if (joined !== undefined) options[name.slice(2)] = joined
    else if (WITH_VALUE.has(name)) options[name.replace(/^-+/, '')] = args[++at]
    else options[name.replace(/^-+/, '')] = true
  }
  const [verb, id, ...rest] = words
  return { options, verb, id, rest }
}

const { options, verb, id, rest } = parse(process.argv.slice(2))
const home = join(options.root, String(id))
const statePath = join(home, 'state.json')
const gate = join(home, 'exec.fifo')

function fail(message, exitCode = 1) {
  if (options.log)
    appendFileSync(options.log, `${JSON.stringify({ level: 'error', msg: message, time: new Date().toISOString() })}\n`)
  process.stderr.write(`${message}\n`)
  process.exit(exitCode)
}

const readState = () =>
  existsSync(statePath) ? JSON.parse(readFileSync(statePath, 'utf8')) : fail(`container does not exist: ${id}`)

/** Field 22 of the process's stat file: with it a pid is unmistakable. */
function startTimeOf(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' ? undefined : fields[19]
  } catch {
    return undefined
  }
}

const isRunning = (state) => startTimeOf(state.pid) === state.startTime

async function misbehave() {
  const path = join(options.root, 'faults.json')
  const faults = (existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : {})[verb] ?? {}
  if (faults.delayMs) await delay(faults.delayMs)
  if (faults.stderr) process.stderr.write(faults.stderr)
  for (let left = faults.stderrBytes ?? 0; left > 0; left -= 1_000_000)
    writeSync(2, Buffer.alloc(1_000_000, '\x1b[31mgarbage\n'))
  if (faults.log) appendFileSync(options.log, faults.log)
  // A child that a killed runtime leaves behind, as a hook would be.
  if (faults.abandon) spawn('/bin/sleep', ['1000'], { stdio: 'ignore', detached: true }).unref()
  if (faults.killSelf) process.kill(process.pid, 'SIGKILL')
  if (faults.hang) await delay(2 ** 30)
  if (faults.exitCode !== undefined) process.exit(faults.exitCode)
  return faults
}

function create(faults) {
  if (existsSync(home)) fail(`container with given ID already exists: ${id}`)
  const bundle = options.bundle ?? options.b
  const { process: program } = JSON.parse(readFileSync(join(bundle, 'config.json'), 'utf8'))
  const [file] = program.args
  if (!existsSync(file)) fail(`exec: "${file}": executable file not found in $PATH`)
  mkdirSync(home, { recursive: true })
  spawnSync('/usr/bin/mkfifo', [gate])
  // Waits to be started, then becomes the command.
  const init = spawn(
    '/bin/sh',
    ['-c', 'gate=$1; shift; read -r _ < "$gate"; exec "$@"', 'init', gate, ...program.args],
    {
      stdio: 'inherit',
      detached: true,
      env: Object.fromEntries((program.env ?? []).map((entry) => entry.split(/=(.*)/s).slice(0, 2))),
    },
  )
  writeFileSync(
    statePath,
    JSON.stringify({ id, bundle, pid: init.pid, startTime: startTimeOf(init.pid), started: false }),
  )
  if (faults.pidFile !== false) writeFileSync(options['pid-file'], faults.pidFile ?? String(init.pid))
  if (faults.killInit) process.kill(init.pid, 'SIGKILL')
  process.exit(0)
}

function start() {
  const state = readState()
  if (!isRunning(state)) fail(`cannot start a container that has stopped`)
  if (state.started) fail(`cannot start a container in the running state`)
  writeFileSync(statePath, JSON.stringify({ ...state, started: true }))
  writeFileSync(gate, '\n')
}

function kill() {
  const state = readState()
  if (!isRunning(state)) fail('container not running')
  process.kill(
    -state.pid,
    rest[0] === undefined || /^\d+$/.test(rest[0]) ? Number(rest[0] ?? 15) : `SIG${rest[0].replace(/^SIG/, '')}`,
  )
}

async function remove() {
  if (!existsSync(home) && options.force) return
  const state = readState()
  if (isRunning(state)) {
    if (!options.force) fail('cannot delete container that is not stopped')
    process.kill(-state.pid, 'SIGKILL')
    while (isRunning(state)) await delay(5)
  }
  rmSync(home, { recursive: true })
}

function state() {
  const { pid, bundle, ...known } = readState()
  const status = !isRunning({ pid, ...known }) ? 'stopped' : known.started ? 'running' : 'created'
  process.stdout.write(JSON.stringify({ ociVersion: '1.0.2', id, pid: status === 'stopped' ? 0 : pid, status, bundle }))
}

const verbs = { create, start, kill, delete: remove, state }
if (!(verb in verbs)) fail(`no such command: ${verb}`)
await verbs[verb](await misbehave())
