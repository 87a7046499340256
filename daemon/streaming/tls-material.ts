/**
 * Certificate, key and client authorities of the streaming server: from files, or made here. Files are looked at again and
 * again, for certificates are short-lived; what cannot be used changes nothing.
 */
import { createSecureContext, type SecureContextOptions } from 'node:tls'
import { readBounded } from '#linux/read-bounded.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { Config } from '../config/schema.ts'
import { type Certificate, makeSelfSigned } from './self-signed.ts'

type StreamingTls = Config['streaming']['tls']

const MAX_FILE_BYTES = 1_048_576
/** A certificate of our own is replaced this long before its end. */
const RENEW_BEFORE_MS = 30 * 86_400_000

const readPem = (path: string): string => {
  try {
    return readBounded(path, MAX_FILE_BYTES).toString('latin1')
  } catch (cause) {
    throw new RuntimeError('invalid-argument', `Cannot read "${path}": ${messageOf(cause)}`, { cause })
  }
}

export interface TlsMaterial {
  options: SecureContextOptions
  /** Clients without a certificate of these authorities are turned away. */
  requiresClient: boolean
}

export class TlsSource {
  readonly #names: readonly string[]
  readonly #now: () => number
  #own: Certificate | undefined
  #last = ''

  /** @param names what a certificate made here is valid for; @param now milliseconds since the epoch */
  constructor(names: readonly string[], now: () => number = () => Date.now()) {
    this.#names = names
    this.#now = now
  }

  /**
   * What is to be used now, or nothing when it is what was given last time.
   * @throws RuntimeError invalid-argument naming what cannot be read, or does not fit together
   */
  fresh(config: StreamingTls): TlsMaterial | undefined {
    const material = this.#load(config)
    const text = JSON.stringify(material)
    if (text === this.#last) return undefined
    try {
      createSecureContext(material.options)
    } catch (cause) {
      const files = [config.certFile, config.keyFile, config.clientCaFile].filter((file) => file !== undefined)
      const what = `Cannot use ${files.map((file) => `"${file}"`).join(', ') || 'streaming.tls'}: ${messageOf(cause)}`
      throw new RuntimeError('invalid-argument', what, { cause })
    }
    this.#last = text
    return material
  }

  #load({ certFile, keyFile, clientCaFile, minVersion, ciphers }: StreamingTls): TlsMaterial {
    const own = certFile === undefined || keyFile === undefined ? this.#ownCertificate() : undefined
    const options: SecureContextOptions = {
      cert: own?.cert ?? readPem(certFile ?? ''),
      key: own?.key ?? readPem(keyFile ?? ''),
      minVersion: minVersion === '1.3' ? 'TLSv1.3' : 'TLSv1.2',
    }
    if (ciphers.length > 0) options.ciphers = ciphers.join(':')
    if (clientCaFile !== undefined) options.ca = readPem(clientCaFile)
    return { options, requiresClient: clientCaFile !== undefined }
  }

  #ownCertificate(): Certificate {
    if (this.#own === undefined || this.#own.expiresAt - this.#now() < RENEW_BEFORE_MS)
      this.#own = makeSelfSigned(this.#names, this.#now())
    return this.#own
  }
}
