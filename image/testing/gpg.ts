/** OpenPGP keys in a directory of their own, and what they sign, by the gpg of the machine. */

import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

export const hasGpg = (): boolean => existsSync('/usr/bin/gpg') && existsSync('/usr/bin/gpgv')

export class Gpg implements AsyncDisposable {
  readonly #home: string

  private constructor(home: string) {
    this.#home = home
  }

  static async make(): Promise<Gpg> {
    return new Gpg(await mkdtemp(join(tmpdir(), 'gpg-')))
  }

  /** For other programs: GNUPGHOME. */
  get home(): string {
    return this.#home
  }

  async addKey(email: string): Promise<void> {
    await this.#gpg(['--passphrase', '', '--quick-generate-key', email, 'ed25519', 'sign', 'never'])
  }

  /** Binary, or as text. */
  async exportKey(email: string, { armor = false } = {}): Promise<Buffer> {
    return this.#gpg([...(armor ? ['--armor'] : []), '--export', email])
  }

  /** All keys, as gpg itself keeps them. */
  keybox(): Promise<Buffer> {
    return readFile(join(this.#home, 'pubring.kbx'))
  }

  /** A message with its signature inside. */
  async sign(content: Buffer, email: string, how: readonly string[] = ['--sign']): Promise<Buffer> {
    const file = join(this.#home, 'to-sign')
    await writeFile(file, content)
    return this.#gpg(['--local-user', email, '--output', '-', ...how, file])
  }

  async #gpg(args: readonly string[]): Promise<Buffer> {
    const { stdout } = await run('/usr/bin/gpg', ['--homedir', this.#home, '--batch', '--quiet', ...args], {
      encoding: 'buffer',
      env: { PATH: '/usr/bin:/bin', HOME: this.#home },
    })
    return stdout
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run('/usr/bin/gpgconf', ['--homedir', this.#home, '--kill', 'all']).catch(() => {})
    await rm(this.#home, { recursive: true, force: true })
  }
}
