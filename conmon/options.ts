/** The command line (`conmon <directory> [--announce]`) and the options file in that directory, which keeps the cookie out of sight. */
import { readFileSync } from 'node:fs'
import { isAbsolute, join, resolve } from 'node:path'
import {
  announceFlag,
  decodeObject,
  type MonitorOptions,
  monitorFiles,
  type RestoreOptions,
  spareFlag,
} from '#proto/conmon.ts'

export interface Arguments {
  /** The state directory of the container. */
  readonly dir: string
  /** Whether whoever launched us waits for a byte on `readyDescriptor`. */
  readonly announce: boolean
}

/** 'spare' when the directory is to come later. @throws TypeError when the command line is not as it must be */
export function parseArguments(args: readonly string[]): Arguments | 'spare' {
  const [dir, flag] = args
  if (dir === spareFlag && args.length === 2) return 'spare'
  const announce = flag === announceFlag
  if (dir === undefined || !isAbsolute(dir) || args.length !== (announce ? 2 : 1)) {
    throw new TypeError(`usage: conmon <absolute path of the state directory> [${announceFlag}]`)
  }
  return { dir, announce }
}

/** @throws TypeError naming the option that is not what it must be */
export function readOptions(dir: string): MonitorOptions {
  const path = join(dir, monitorFiles.options)
  const options = decodeObject(readFileSync(path))
  if (options === undefined) throw new TypeError(`options file "${path}" is not a JSON object`)
  return parseOptions(options)
}

type Fields = Record<string, unknown>

export function parseOptions(fields: Fields): MonitorOptions {
  const runtime = fieldsOf(fields, 'runtime')
  return {
    id: text(fields, 'id'),
    cookie: text(fields, 'cookie'),
    runtime: {
      path: absolutePath(runtime, 'path'),
      root: absolutePath(runtime, 'root'),
      systemdCgroup: flag(runtime, 'systemdCgroup'),
    },
    terminal: flag(fields, 'terminal'),
    stdin: flag(fields, 'stdin'),
    stdinOnce: flag(fields, 'stdinOnce'),
    ...(fields.logPath !== undefined && { logPath: absolutePath(fields, 'logPath') }),
    ...(fields.logDirectory !== undefined && { logDirectory: logDirectory(fields) }),
    ...(fields.journal !== undefined && { journal: flag(fields, 'journal') }),
    ...(fields.journalFields !== undefined && { journalFields: journalFields(fields) }),
    ...(fields.openFiles !== undefined && { openFiles: whole(fields, 'openFiles', 3, 2 ** 31 - 1) }),
    ...(fields.monitorCgroup !== undefined && { monitorCgroup: absolutePath(fields, 'monitorCgroup') }),
    ...(fields.oomScoreAdj !== undefined && { oomScoreAdj: whole(fields, 'oomScoreAdj', -1000, 1000) }),
    cgroupPath: text(fields, 'cgroupPath'),
    sharedPidNamespace: flag(fields, 'sharedPidNamespace'),
    createTimeoutMs: whole(fields, 'createTimeoutMs', 1, 2 ** 31 - 1),
    ...(fields.restore !== undefined && { restore: restoreOptions(fieldsOf(fields, 'restore')) }),
  }
}

function text(fields: Fields, name: string): string {
  const value = fields[name]
  if (typeof value === 'string' && value !== '' && !value.includes('\0')) return value
  throw new TypeError(`option "${name}" is not a text`)
}

function absolutePath(fields: Fields, name: string): string {
  const value = text(fields, name)
  if (isAbsolute(value)) return value
  throw new TypeError(`option "${name}" is not an absolute path: "${value}"`)
}

function logDirectory(fields: Fields): string {
  const directory = resolve(absolutePath(fields, 'logDirectory'))
  const path = resolve(absolutePath(fields, 'logPath'))
  if (path.startsWith(directory.endsWith('/') ? directory : `${directory}/`)) return directory
  throw new TypeError(`option "logPath" is not below "${directory}": "${path}"`)
}

const restoreOptions = (fields: Fields): RestoreOptions => ({
  images: absolutePath(fields, 'images'),
  work: absolutePath(fields, 'work'),
  criu: absolutePath(fields, 'criu'),
})

function journalFields(fields: Fields): Record<string, string> {
  const given = fieldsOf(fields, 'journalFields')
  for (const name of Object.keys(given)) {
    if (!/^[A-Z][A-Z0-9_]{0,63}$/.test(name))
      throw new TypeError(`option "journalFields" has a field "${name}" that is none`)
  }
  return Object.fromEntries(Object.keys(given).map((name) => [name, text(given, name)]))
}

function flag(fields: Fields, name: string): boolean {
  const value = fields[name]
  if (typeof value === 'boolean') return value
  throw new TypeError(`option "${name}" is not true or false`)
}

function whole(fields: Fields, name: string, least: number, most: number): number {
  const value = fields[name]
  if (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most) return value
  throw new TypeError(`option "${name}" is not a whole number from ${least} to ${most}`)
}

function fieldsOf(fields: Fields, name: string): Fields {
  const value = fields[name]
  if (typeof value === 'object' && value !== null) return { ...value }
  throw new TypeError(`option "${name}" is not an object`)
}
