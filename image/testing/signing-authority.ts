/** An authority that certifies signers as Fulcio does, made by openssl in a directory that goes. */

import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { KeyPair } from './signer.ts'

const run = promisify(execFile)

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
const CA = 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n'

export interface Wishes {
  /** "email:me@example.test", "DNS:build.example.test" */
  readonly san: string
  readonly issuer?: string
  readonly uses?: string
  /** Further lines of openssl's extension section. */
  readonly more?: string
}

export class SigningAuthority implements AsyncDisposable {
  readonly dir: string
  readonly #name: string
  /** PEM. */
  readonly certificate: string

  private constructor(dir: string, name: string, certificate: string) {
    this.dir = dir
    this.#name = name
    this.certificate = certificate
  }

  static async make(): Promise<SigningAuthority> {
    const dir = await mkdtemp(join(tmpdir(), 'cricket-signers-'))
    const files = ['-keyout', join(dir, 'root.key'), '-out', join(dir, 'root.crt')]
    const extensions = CA.trim()
      .split('\n')
      .flatMap((line) => ['-addext', line])
    const config = join(dir, 'root.cnf')
    await writeFile(config, '[req]\ndistinguished_name=dn\n[dn]\n')
    const own = ['-config', config, '-subj', '/CN=root', '-days', '2000', ...extensions]
    await run('openssl', ['req', '-x509', ...KEY, ...own, ...files])
    return new SigningAuthority(dir, 'root', await readFile(join(dir, 'root.crt'), 'utf8'))
  }

  /** An authority below this one. */
  async below(name: string, extensions = CA): Promise<SigningAuthority> {
    const file = (suffix: string): string => join(this.dir, `${name}.${suffix}`)
    await run('openssl', ['req', ...KEY, '-subj', `/CN=${name}`, '-keyout', file('key'), '-out', file('csr')])
    await this.#sign(name, file('csr'), extensions)
    return new SigningAuthority(this.dir, name, await readFile(file('crt'), 'utf8'))
  }

  /** A certificate for this key, PEM. */
  async certify(key: KeyPair, wishes: Wishes): Promise<string> {
    const name = `leaf-${Math.random().toString(36).slice(2)}`
    const file = (suffix: string): string => join(this.dir, `${name}.${suffix}`)
    await writeFile(file('key'), key.privateKey.export({ type: 'pkcs8', format: 'pem' }))
    await run('openssl', ['req', '-new', '-key', file('key'), '-subj', '/', '-out', file('csr')])
    const { san, issuer, uses = 'codeSigning', more = '' } = wishes
    const lines = [
      `subjectAltName=critical,${san}`,
      'keyUsage=critical,digitalSignature',
      `extendedKeyUsage=${uses}`,
      ...(issuer === undefined ? [] : [`1.3.6.1.4.1.57264.1.8=ASN1:UTF8String:${issuer}`]),
      more,
    ]
    await this.#sign(name, file('csr'), lines.join('\n'))
    return readFile(file('crt'), 'utf8')
  }

  async #sign(name: string, request: string, extensions: string): Promise<void> {
    const file = (suffix: string): string => join(this.dir, `${name}.${suffix}`)
    await writeFile(file('ext'), `${extensions}\n`)
    const by = ['-CA', join(this.dir, `${this.#name}.crt`), '-CAkey', join(this.dir, `${this.#name}.key`)]
    const serial = ['-set_serial', `0x${Buffer.from(name).toString('hex').slice(0, 16)}`]
    await run('openssl', [
      'x509',
      '-req',
      '-in',
      request,
      ...by,
      ...serial,
      '-extfile',
      file('ext'),
      '-days',
      '2',
      '-out',
      file('crt'),
    ])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.dir, { recursive: true, force: true })
  }
}
