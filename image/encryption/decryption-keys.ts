/** The node's private keys for encrypted layers: every file of a directory, PEM, DER or JWK. Read for each pull that needs them. */

import { createPrivateKey, type KeyObject } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import type { Log } from '#proto/log.ts'

const MAX_KEY_BYTES = 64 * 1024
const MAX_KEYS = 256

/** A file that is no key is logged and passed over: another one may be what is needed. */
export const decryptionKeys = (dir: string, log: Log): KeyObject[] =>
  namesIn(dir)
    .slice(0, MAX_KEYS)
    .flatMap((name) => {
      const path = join(dir, name)
      const key = readKey(path)
      if (key === undefined) log.warn('File is no private key that can be used', { path })
      return key ?? []
    })

const namesIn = (dir: string): string[] => {
  try {
    return readdirSync(dir)
      .filter((name) => statSync(join(dir, name), { throwIfNoEntry: false })?.isFile())
      .sort()
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return []
    throw error
  }
}

const readKey = (path: string): KeyObject | undefined => {
  if (statSync(path).size > MAX_KEY_BYTES) return undefined
  const bytes = readFileSync(path)
  const forms = [
    () => createPrivateKey(bytes),
    () => createPrivateKey({ key: bytes, format: 'der', type: 'pkcs8' }),
    () => createPrivateKey({ key: bytes, format: 'der', type: 'pkcs1' }),
    () => createPrivateKey({ key: bytes, format: 'der', type: 'sec1' }),
    () => createPrivateKey({ key: JSON.parse(bytes.toString('utf8')), format: 'jwk' }),
  ]
  for (const read of forms) {
    try {
      return read()
    } catch {
      // Errors of the crypto library can quote what they read; the key stays a secret.
    }
  }
  return undefined
}
