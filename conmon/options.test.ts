import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseArguments, parseOptions } from './options.ts'

const good = {
  id: 'c1',
  cookie: 'k',
  runtime: { path: '/usr/sbin/runc', root: '/run/runc', systemdCgroup: false },
  terminal: false,
  stdin: true,
  stdinOnce: false,
  logPath: '/var/log/pods/a:b/0.log',
  logDirectory: '/var/log/pods',
  journal: true,
  journalFields: { CONTAINER_NAME: 'main' },
  openFiles: 4096,
  monitorCgroup: '/cricket/monitors',
  oomScoreAdj: -998,
  cgroupPath: 'kubepods.slice:cricket:c1',
  sharedPidNamespace: false,
  createTimeoutMs: 1000,
}

test('good options are taken as they are, later ones are ignored', () => {
  assert.deepEqual(parseOptions(good), good)
  assert.deepEqual(parseOptions({ ...good, later: 1 }), good)
})

test('each bad option is named', () => {
  const bad = {
    id: '',
    cookie: 1,
    terminal: 'yes',
    logPath: 'relative',
    oomScoreAdj: -1001,
    createTimeoutMs: 2 ** 31,
    logDirectory: '/var/log/pod',
    journal: 1,
    journalFields: { 'MESSAGE\nEVIL': 'x' },
    openFiles: 0,
    monitorCgroup: 'monitors',
    runtime: null,
  }
  for (const [name, value] of Object.entries(bad)) {
    assert.throws(() => parseOptions({ ...good, [name]: value }), {
      name: 'TypeError',
      message: new RegExp(name === 'logDirectory' ? 'is not below "/var/log/pod"' : `"${name}"`),
    })
  }
  assert.throws(
    () => parseOptions({ ...good, runtime: { ...good.runtime, path: 'runc' } }),
    /"path" is not an absolute path: "runc"/,
  )
})

test('the command line is a directory and maybe a flag', () => {
  assert.deepEqual(parseArguments(['/run/c']), { dir: '/run/c', announce: false })
  assert.deepEqual(parseArguments(['/run/c', '--announce']), { dir: '/run/c', announce: true })
  for (const args of [[], ['run/c'], ['/run/c', 'x'], ['/run/c', '--announce', 'x'], ['--announce']]) {
    assert.throws(() => parseArguments(args), /usage: conmon/)
  }
})
