/** An authority of our own with certificates for loopback and for clients, made by openssl in a directory that goes. */

import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']

export const hasOpenssl = (): boolean => existsSync('/usr/bin/openssl')

export interface Pair {
  readonly cert: string
  readonly key: string
  readonly certFile: string
  readonly keyFile: string
}

export class Authority implements AsyncDisposable {
  readonly dir: string
  readonly cert: string
  readonly file: string

  private constructor(dir: string, cert: string) {
    this.dir = dir
    this.cert = cert
    this.file = join(dir, 'ca.crt')
  }

  static async make(): Promise<Authority> {
    const dir = await mkdtemp(join(tmpdir(), 'cricket-ca-'))
    const subject = ['-subj', `/CN=authority ${dir.slice(-6)}`]
    const files = ['-keyout', join(dir, 'ca.key'), '-out', join(dir, 'ca.crt')]
    await run('openssl', ['req', '-x509', ...KEY, '-days', '2', ...subject, ...files])
    return new Authority(dir, await readFile(join(dir, 'ca.crt'), 'utf8'))
  }

  /** @param days negative for one that has expired */
  async issue(name: string, { san = 'IP:127.0.0.1', days = 2 }: { san?: string; days?: number } = {}): Promise<Pair> {
    const file = (suffix: string): string => join(this.dir, `${name}.${suffix}`)
    await run('openssl', ['req', ...KEY, '-subj', `/CN=${name}`, '-keyout', file('key'), '-out', file('csr')])
    await writeFile(file('ext'), `subjectAltName=${san}\n`)
    const signing = ['-CA', this.file, '-CAkey', join(this.dir, 'ca.key'), '-CAcreateserial', '-extfile', file('ext')]
    const time =
      days < 0 ? ['-not_before', '20200101000000Z', '-not_after', '20200102000000Z'] : ['-days', String(days)]
    await run('openssl', ['x509', '-req', '-in', file('csr'), ...signing, ...time, '-out', file('crt')])
    return {
      cert: await readFile(file('crt'), 'utf8'),
      key: await readFile(file('key'), 'utf8'),
      certFile: file('crt'),
      keyFile: file('key'),
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.dir, { recursive: true })
  }
}
