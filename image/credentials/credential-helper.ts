/**
 * Helper programs in Docker's protocol: `docker-credential-<name> get`, the server's name on standard input, JSON on
 * standard output.
 */

import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'
import * as z from 'zod'
import { runCommand } from '#linux/run-command.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { Credentials } from './credentials.ts'

export interface HelperSettings {
  /** Where the programs are looked for. */
  readonly dirs: readonly string[]
  readonly deadlineMs: number
  /** What of our environment they get: proxies and where their own configuration is. */
  readonly env: Readonly<Record<string, string | undefined>>
}

const PASSED = ['HOME', 'HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'http_proxy', 'https_proxy', 'no_proxy']
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/
const MAX_OUTPUT = 256 * 1024
/** The user name that says that the secret is an identity token. */
const TOKEN_USER = '<token>'
/** What Docker's own helpers print when they have nothing; exit codes do not tell. */
const NOTHING = 'credentials not found in native keychain'

const answer = z.object({ Username: z.string(), Secret: z.string() })

/**
 * @param server as the helper knows it: "host:5000"
 * @returns anonymous when it has none for this server
 * @throws RuntimeError permission-denied when there is no such helper, it fails, hangs, or answers nonsense; without its output
 */
export const askHelper = async (
  settings: HelperSettings,
  name: string,
  server: string,
  signal: AbortSignal,
): Promise<Credentials> => {
  const failed = (why: string, cause?: unknown): RuntimeError =>
    new RuntimeError('permission-denied', `Credential helper "docker-credential-${name}" ${why}`, { cause })
  if (!NAME.test(name))
    throw new RuntimeError('permission-denied', 'Credential helper has a name that is no plain name')
  const program = settings.dirs.map((dir) => join(dir, `docker-credential-${name}`)).find(isExecutable)
  if (program === undefined) throw failed(`is not in ${settings.dirs.join(', ')}`)
  const { exit, stdout } = await runCommand(program, ['get'], {
    input: `${server}\n`,
    env: environment(settings),
    timeoutMs: settings.deadlineMs,
    maxOutput: MAX_OUTPUT,
    signal,
  }).catch((error: unknown) => {
    signal.throwIfAborted()
    throw failed(`failed: ${messageOf(error)}`, error)
  })
  if (exit.how === 'exited' && exit.code === 0) return read(stdout, failed)
  if (stdout.toString('utf8').trim().startsWith(NOTHING)) return { kind: 'anonymous' }
  throw failed(exit.how === 'exited' ? `ended with exit code ${exit.code}` : `was killed by signal ${exit.signal}`)
}

const read = (stdout: Buffer, failed: (why: string) => RuntimeError): Credentials => {
  const parsed = answer.safeParse(jsonOrNothing(stdout))
  if (!parsed.success) throw failed('answered something else than user name and secret')
  const { Username: username, Secret: secret } = parsed.data
  if (username === '' || secret === '') return { kind: 'anonymous' }
  return username === TOKEN_USER ? { kind: 'refresh', token: secret } : { kind: 'basic', username, password: secret }
}

const environment = ({ dirs, env }: HelperSettings): Record<string, string> => {
  const passed = PASSED.flatMap((name): [string, string][] => {
    const value = env[name]
    return value === undefined ? [] : [[name, value]]
  })
  return { PATH: [...dirs, '/usr/bin', '/bin'].join(':'), HOME: '/root', ...Object.fromEntries(passed) }
}

const isExecutable = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

const jsonOrNothing = (bytes: Buffer): unknown => {
  try {
    return JSON.parse(bytes.toString('utf8'))
  } catch {
    return undefined
  }
}
