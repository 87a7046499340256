/**
 * Programs that judge images, in containerd's form: each executable of a directory is run with `-name -digest
 * -stdin-media-type` and the image's descriptor on standard input; exit code 0 lets it pass, everything else does not.
 */

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import { type CommandResult, runCommand } from '#linux/run-command.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { Descriptor } from '../manifest.ts'

export interface VerifierSettings {
  /** Not set: nobody is asked. */
  readonly dir: string | undefined
  /** Programs beyond this are refused, not skipped. */
  readonly most: number
  /** For each of them. */
  readonly deadlineMs: number
}

const DESCRIPTOR = 'application/vnd.oci.descriptor.v1+json'
/** Of standard output, which is the reason, and of standard error. */
const MAX_OUTPUT = 16 * 1024
const MAX_REASON = 500

/** @throws RuntimeError signature-validation-failed with the verifier and its reason; the signal's reason */
export const runVerifiers = async (
  { dir, most, deadlineMs }: VerifierSettings,
  { name, descriptor, log }: { readonly name: string; readonly descriptor: Descriptor; readonly log: Log },
  signal: AbortSignal,
): Promise<void> => {
  if (dir === undefined) return
  const programs = programsIn(dir)
  if (programs.length > most) {
    throw refused(`there are ${programs.length} image verifiers in "${dir}", allowed are ${most}`)
  }
  const { mediaType, digest, size } = descriptor
  const input = `${JSON.stringify({ mediaType, digest, size })}\n`
  for (const program of programs) {
    const args = ['-name', name, '-digest', digest, '-stdin-media-type', DESCRIPTOR]
    const limits = { timeoutMs: deadlineMs, maxOutput: MAX_OUTPUT, signal }
    const result = await runCommand(join(dir, program), args, { input, ...limits }).catch((error: unknown) => {
      signal.throwIfAborted()
      throw refused(`image verifier "${program}" failed: ${messageOf(error)}`, error)
    })
    judge(program, name, result, log)
  }
}

const programsIn = (dir: string): string[] => {
  try {
    return readdirSync(dir).sort()
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return []
    throw refused(`image verifiers in "${dir}" cannot be read: ${messageOf(error)}`, error)
  }
}

const judge = (program: string, image: string, { exit, stdout, stderr }: CommandResult, log: Log): void => {
  const said = stderr.toString('utf8').trim()
  if (said !== '') log.debug('Image verifier', { program, image, said })
  if (exit.how === 'exited' && exit.code === 0) return
  const how = exit.how === 'exited' ? `exit code ${exit.code}` : `killed by signal ${exit.signal}`
  const reason = oneLine(stdout.toString('utf8'))
  throw refused(`image verifier "${program}" refuses "${image}" (${how})${reason === '' ? '' : `: ${reason}`}`)
}

/** What a program prints ends in events that people read. */
const oneLine = (text: string): string =>
  text
    .replaceAll(/[\p{Cc}\s]+/gu, ' ')
    .trim()
    .slice(0, MAX_REASON)

const refused = (why: string, cause?: unknown): RuntimeError =>
  new RuntimeError('signature-validation-failed', `SignatureValidationFailed: ${why}`, { cause })
