/** Signatures beside a registry, `<lookaside>/<path>@sha256=<hex>/signature-<n>`, counted from 1 to the first that is missing. */

import { readFile, stat } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { isErrno } from '#linux/errno.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { Digest } from '#storage/digest.ts'
import type { Exchange } from '../registry/http-exchange.ts'
import { isPassingStatus, PassingFailure, refusal } from '../registry/registry-error.ts'
import { retrying } from '../registry/retry.ts'
import type { Timing } from '../registry/timing.ts'
import { readAll, send } from '../registry/transport.ts'
import { type Evidence, MAX_SIGNATURE_BYTES, MAX_SIGNATURES } from './evidence.ts'

export interface LookasideInput {
  readonly exchange: Exchange
  readonly timing: Timing
  readonly log: Log
}

/** @throws RuntimeError registry-unavailable when the place cannot be reached */
export const fetchLookaside = async (
  input: LookasideInput,
  base: URL,
  { path, digest }: { readonly path: string; readonly digest: Digest },
  signal: AbortSignal,
): Promise<Evidence[]> => {
  const found: Evidence[] = []
  for (let number = 1; number <= MAX_SIGNATURES; number++) {
    const url = new URL(base)
    url.pathname = `${base.pathname.replace(/\/$/, '')}/${path}@${digest.replace(':', '=')}/signature-${number}`
    const bytes = url.protocol === 'file:' ? await fromDisk(url) : await fromServer(input, url, signal)
    if (bytes === undefined) break
    // Other kinds of signatures begin with a zero and their name.
    if (bytes[0] !== 0) found.push({ kind: 'simple', message: bytes.toString('base64') })
  }
  return found
}

const fromDisk = async (url: URL): Promise<Buffer | undefined> => {
  const path = fileURLToPath(url)
  try {
    const { size } = await stat(path)
    if (size > MAX_SIGNATURE_BYTES) throw new RuntimeError('resource-exhausted', `Signature "${path}" is too large`)
    return await readFile(path)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    if (error instanceof RuntimeError) throw error
    throw new RuntimeError('failed-precondition', `Signature "${path}" cannot be read: ${messageOf(error)}`, {
      cause: error,
    })
  }
}

const fromServer = (
  { exchange, timing, log }: LookasideInput,
  url: URL,
  signal: AbortSignal,
): Promise<Buffer | undefined> => {
  const what = `signature "${url.origin}${url.pathname}"`
  return retrying({ timing, log, signal }, what, async () => {
    const response = await send(exchange, { method: 'GET', url, signal })
    if (response.status === 200) {
      return readAll(response, { maxBytes: MAX_SIGNATURE_BYTES, withinMs: timing.documentMs, what })
    }
    response.discard()
    if (response.status === 404) return undefined
    if (isPassingStatus(response.status)) throw new PassingFailure(`Answer ${response.status} for ${what}`)
    throw refusal(response.status, [], what)
  })
}
