/** OpenPGP signatures by gpgv, which every Debian has: it checks against the given keys alone, and neither asks nor writes anything. */

import { accessSync, constants } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runCommand } from '#linux/run-command.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import { BadSignature } from './evidence.ts'

const PROGRAMS = ['/usr/bin/gpgv', '/bin/gpgv', '/usr/local/bin/gpgv']
const DEADLINE_MS = 30_000
const MAX_OUTPUT = 1024 * 1024

/**
 * @param message an OpenPGP message with its signature inside
 * @returns what was signed
 * @throws BadSignature when no key of the keyrings made it; RuntimeError failed-precondition without gpgv
 */
export const verifyOpenpgp = async (
  message: Buffer,
  keyrings: readonly Buffer[],
  signal?: AbortSignal,
): Promise<Buffer> => {
  const program = PROGRAMS.find(isExecutable)
  if (program === undefined) {
    throw new RuntimeError('failed-precondition', `The signature policy wants OpenPGP, and there is no ${PROGRAMS[0]}`)
  }
  const dir = await mkdtemp(join(tmpdir(), 'cricket-gpgv-'))
  try {
    const names = keyrings.map((_, index) => join(dir, `${index}.gpg`))
    for (const [index, bytes] of keyrings.entries()) await writeFile(names[index] ?? '', bytes, { mode: 0o600 })
    const file = join(dir, 'message')
    await writeFile(file, message, { mode: 0o600 })
    return await gpgv(program, { dir, file, rings: names }, signal)
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

interface Files {
  readonly dir: string
  readonly file: string
  readonly rings: readonly string[]
}

const gpgv = async (program: string, { dir, file, rings }: Files, signal: AbortSignal | undefined): Promise<Buffer> => {
  const output = join(dir, 'signed')
  const args = [
    '--homedir',
    dir,
    ...rings.flatMap((ring) => ['--keyring', ring]),
    '--status-fd',
    '1',
    '--output',
    output,
  ]
  const { exit, stdout } = await runCommand(program, [...args, file], {
    timeoutMs: DEADLINE_MS,
    maxOutput: MAX_OUTPUT,
    ...(signal && { signal }),
  }).catch((error: unknown) => {
    signal?.throwIfAborted()
    throw new BadSignature(`gpgv failed: ${messageOf(error)}`, { cause: error })
  })
  const said = statusLines(stdout.toString('utf8'))
  if (exit.how !== 'exited' || exit.code !== 0) throw new BadSignature(`no key of the policy made it (${reason(said)})`)
  refuseUnlessOneGood(said)
  return readFile(output)
}

/** "[GNUPG:] GOODSIG …" → "GOODSIG" */
const statusLines = (text: string): string[] =>
  text.split('\n').flatMap((line) => {
    const found = /^\[GNUPG:\] (\w+)/.exec(line)?.[1]
    return found === undefined ? [] : [found]
  })

const BAD = ['BADSIG', 'ERRSIG', 'EXPSIG', 'EXPKEYSIG', 'REVKEYSIG', 'NO_PUBKEY', 'NODATA', 'UNEXPECTED']

const reason = (said: readonly string[]): string => said.find((word) => BAD.includes(word)) ?? 'no signature'

/** One message, one signature, all of it signed: with more, what was signed and what is read could differ. */
const refuseUnlessOneGood = (said: readonly string[]): void => {
  const count = (word: string): number => said.filter((each) => each === word).length
  const bad = said.find((word) => BAD.includes(word))
  if (bad !== undefined) throw new BadSignature(`gpgv says ${bad}`)
  if (count('GOODSIG') !== 1 || count('VALIDSIG') !== 1 || count('PLAINTEXT') > 1) {
    throw new BadSignature('it is not one message with one good signature')
  }
}

const isExecutable = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
