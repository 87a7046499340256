/**
 * A CNI plugin that writes down what it was asked and does what its scenario says. argv: scenario file, plugin name. The scenario
 * is {calls, children, and for each verb Step[]}: the n-th call with a verb takes the n-th step, the last step repeats. A step is one of
 *   {do: 'result', result}   {do: 'error', code, msg, details?}   {do: 'hang'}   {do: 'print', text, exit}
 *   {do: 'flood', bytes}     {do: 'stderr', text, exit}           {do: 'kill'}
 * Without a step: ADD returns an address of its own or passes prevResult on, the others succeed.
 * Calls are appended to the file `calls`, one JSON line each; pids of children of hanging plugins to `children`.
 */
import { spawn } from 'node:child_process'
import { appendFileSync, existsSync, readFileSync, writeSync } from 'node:fs'

const scenarioFile = process.argv[2]
const name = process.argv[3]
const verb = process.env.CNI_COMMAND

const config = JSON.parse(readFileSync(0, 'utf8'))
const scenario = JSON.parse(readFileSync(scenarioFile, 'utf8'))
const { calls: callsFile, children: childrenFile } = scenario
const earlier = existsSync(callsFile)
  ? readFileSync(callsFile, 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line))
  : []
const nth = earlier.filter((call) => call.verb === verb && call.name === name).length
appendFileSync(callsFile, `${JSON.stringify({ name, verb, env: process.env, config, pid: process.pid })}\n`)

const defaultResult = () =>
  config.prevResult ?? {
    cniVersion: config.cniVersion,
    interfaces: [{ name: process.env.CNI_IFNAME, mac: '02:00:00:00:00:01', sandbox: process.env.CNI_NETNS }],
    ips: [{ address: '10.88.0.5/16', gateway: '10.88.0.1', interface: 0 }],
  }

const steps = scenario[verb] ?? []
const step = steps[Math.min(nth, steps.length - 1)] ?? {
  do: 'result',
  result: verb === 'ADD' ? defaultResult() : undefined,
}

switch (step.do) {
  case 'result':
    if (step.result !== undefined) writeSync(1, JSON.stringify(step.result))
    break
  case 'error':
    writeSync(
      1,
      JSON.stringify({ cniVersion: config.cniVersion, code: step.code, msg: step.msg, details: step.details }),
    )
    process.exitCode = 1
    break
  case 'print':
    writeSync(1, step.text)
    process.exitCode = step.exit ?? 0
    break
  case 'stderr':
    writeSync(2, step.text)
    process.exitCode = step.exit ?? 1
    break
  case 'flood':
    for (let left = step.bytes; left > 0; left -= 65536) writeSync(1, 'x'.repeat(Math.min(left, 65536)))
    break
  case 'kill':
    process.kill(process.pid, 'SIGKILL')
    break
  case 'hang': {
    // With a child of its own: killing the plugin alone would leave that one behind.
    const child = spawn('/bin/sleep', ['600'], { stdio: 'inherit' })
    appendFileSync(childrenFile, `${child.pid}\n`)
    setInterval(() => {}, 1000)
    break
  }
}
