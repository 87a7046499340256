/**
 * Stands in front of a real helper program (an OCI runtime, a CNI plugin) and does what its script says before, instead of
 * or after the real thing. argv: script file, real program, then the arguments of the call. The script is a JSON object of
 * faults by verb (`create`, `ADD`, …), read again at each call:
 *
 *   hang        wait for as long as the script says so, then go on
 *   only        holds only for calls whose arguments, or CNI container id, contain this text
 *   delayMs     wait, then go on
 *   stdout, stderr, stderrBytes    print; the last one that many bytes of noise
 *   signal      end oneself by it; exit: end with this code (both: instead of the real thing, or `after` it)
 *   pidFile     instead of the real thing, write this into the pid file and succeed
 *   killInit    after the real thing, kill the process in the pid file
 *
 * Each call is one JSON line in the file `<script>.calls`.
 */
import { spawnSync } from 'node:child_process'
import { appendFileSync, readFileSync, writeFileSync, writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

const [scriptFile, program, ...args] = process.argv.slice(2)
const verbs = ['create', 'start', 'state', 'kill', 'delete', 'update', 'exec', 'features', 'list', 'pause', 'resume']
const verb = process.env.CNI_COMMAND ?? args.find((arg) => verbs.includes(arg)) ?? 'version'
const subject = [...args, process.env.CNI_CONTAINERID ?? ''].join(' ')

function fault() {
  const found = JSON.parse(readFileSync(scriptFile, 'utf8'))[verb] ?? {}
  return found.only === undefined || subject.includes(found.only) ? found : {}
}

const pidFile = () => args[args.indexOf('--pid-file') + 1]

function print(descriptor, text) {
  for (let rest = Buffer.from(text); rest.length > 0; ) rest = rest.subarray(writeSync(descriptor, rest))
}

function end({ signal, exit }) {
  if (signal !== undefined) process.kill(process.pid, signal)
  if (exit !== undefined) process.exit(exit)
}

appendFileSync(
  `${scriptFile}.calls`,
  `${JSON.stringify({ verb, subject, netns: process.env.CNI_NETNS, pid: process.pid })}\n`,
)
while (fault().hang) await sleep(50)
const now = fault()
if (now.delayMs) await sleep(now.delayMs)
if (now.stdout) print(1, now.stdout)
if (now.stderr) print(2, Buffer.from(now.stderr, 'latin1'))
for (let left = now.stderrBytes ?? 0; left > 0; left -= 65536) print(2, 'x'.repeat(Math.min(left, 65536)))
if (!now.after) end(now)
if (now.pidFile !== undefined) {
  writeFileSync(pidFile(), now.pidFile)
  process.exit(0)
}
const { status, signal } = spawnSync(program, args, { stdio: 'inherit' })
if (now.killInit) process.kill(Number(readFileSync(pidFile(), 'utf8')), 'SIGKILL')
if (now.after) end(now)
if (signal) process.kill(process.pid, signal)
process.exitCode = status ?? 1
