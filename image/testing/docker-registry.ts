/** Debian's docker-registry on loopback, for tests that want the real thing, and what it takes to push to it. */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { BuiltImage, BuiltIndex } from './image-builder.ts'

const PROGRAM = '/usr/bin/docker-registry'

export const hasDockerRegistry = (): boolean => existsSync(PROGRAM)

/** The account of a registry started with `withLogin`; the hash below is of this password. */
export const login = { username: 'tester', password: 'test-password' }
const PASSWORD_FILE = 'tester:$2y$05$abcdefghijklmnopqrstuu34chBxBG/k9ApCErH1wl/WrV4FVTS/q\n'

export class DockerRegistry implements AsyncDisposable {
  readonly host: string
  readonly #directory: string
  readonly #process: ChildProcess
  readonly #headers: Record<string, string>

  private constructor(host: string, directory: string, child: ChildProcess, headers: Record<string, string>) {
    this.host = host
    this.#directory = directory
    this.#process = child
    this.#headers = headers
  }

  static async start({ withLogin = false } = {}): Promise<DockerRegistry> {
    const directory = await mkdtemp(join(tmpdir(), 'cricket-registry-'))
    const host = `127.0.0.1:${await freePort()}`
    const passwords = join(directory, 'passwords')
    await writeFile(passwords, PASSWORD_FILE)
    const config = {
      version: 0.1,
      log: { level: 'error' },
      storage: { filesystem: { rootdirectory: join(directory, 'data') } },
      http: { addr: host },
      ...(withLogin && { auth: { htpasswd: { realm: 'test', path: passwords } } }),
    }
    const file = join(directory, 'config.yml')
    await writeFile(file, JSON.stringify(config))
    const child = spawn(PROGRAM, ['serve', file], { stdio: 'ignore' })
    const encoded = Buffer.from(`${login.username}:${login.password}`).toString('base64')
    const headers: Record<string, string> = withLogin ? { authorization: `Basic ${encoded}` } : {}
    const registry = new DockerRegistry(host, directory, child, headers)
    await registry.#ready()
    return registry
  }

  /** Pushes an image or an index with its images; with a tag if one is given. */
  async push(repository: string, image: BuiltImage | BuiltIndex, tag?: string): Promise<void> {
    const images = 'images' in image ? image.images : [image]
    for (const each of images) {
      for (const [digest, bytes] of each.blobs) await this.#pushBlob(repository, digest, bytes)
      await this.#pushDocument(repository, each, each.digest)
    }
    await this.#pushDocument(repository, image, tag ?? image.digest)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const exited = once(this.#process, 'exit')
    if (this.#process.exitCode === null && this.#process.kill('SIGKILL')) await exited
    await rm(this.#directory, { recursive: true })
  }

  async #ready(): Promise<void> {
    for (let tries = 0; tries < 200; tries++) {
      const answer = await fetch(`http://${this.host}/v2/`, { headers: this.#headers }).catch(() => undefined)
      if (answer?.ok) return
      await sleep(50)
    }
    await this[Symbol.asyncDispose]()
    throw new Error('docker-registry does not answer')
  }

  async #pushBlob(repository: string, digest: string, bytes: Buffer): Promise<void> {
    const started = await this.#send('POST', `http://${this.host}/v2/${repository}/blobs/uploads/`)
    const upload = new URL(started.headers.get('location') ?? '', `http://${this.host}`)
    upload.searchParams.set('digest', digest)
    await this.#send('PUT', upload.href, bytes, 'application/octet-stream')
  }

  async #pushDocument(repository: string, { bytes, mediaType }: BuiltImage | BuiltIndex, name: string): Promise<void> {
    await this.#send('PUT', `http://${this.host}/v2/${repository}/manifests/${name}`, bytes, mediaType)
  }

  async #send(method: string, url: string, body?: Buffer, type?: string): Promise<Response> {
    const headers = { ...this.#headers, ...(type !== undefined && { 'content-type': type }) }
    const response = await fetch(url, { method, headers, ...(body && { body: new Uint8Array(body) }) })
    if (!response.ok) throw new Error(`${method} ${url}: ${response.status} ${await response.text()}`)
    return response
  }
}

const freePort = async (): Promise<number> => {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
