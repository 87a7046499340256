/** A real registry (Debian's docker-registry) on a free loopback port, its files in a directory of the caller's. */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { open, readFile, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

export interface Registry {
  /** `127.0.0.1:port`: what image references begin with. */
  readonly host: string
  readonly url: string
  readonly pid: number
  /** The file that holds a blob's or manifest's bytes, for tests that damage it. */
  blobPath(digest: string): string
  stop(): Promise<void>
}

export interface RegistryOptions {
  /** PEM files: it then speaks TLS only. */
  readonly tls?: { readonly certFile: string; readonly keyFile: string }
  /** Wants the user and password of `login`. */
  readonly withLogin?: boolean
}

/** The account of a registry `withLogin`; the hash is of this password. */
export const login = { username: 'tester', password: 'test-password' }
const PASSWORD_FILE = 'tester:$2y$05$abcdefghijklmnopqrstuu34chBxBG/k9ApCErH1wl/WrV4FVTS/q\n'

/** Starts it and waits until it answers. `dir` must exist; what an earlier one left there is served. */
export async function startRegistry(dir: string, options: RegistryOptions = {}): Promise<Registry> {
  const port = await freePort()
  const host = `127.0.0.1:${port}`
  const configPath = join(dir, 'registry.yml')
  const logPath = join(dir, 'registry.log')
  await writeFile(join(dir, 'passwords'), PASSWORD_FILE)
  await writeFile(configPath, registryConfig(dir, host, options))
  const log = await open(logPath, 'a')
  const child = spawn('docker-registry', ['serve', configPath], { stdio: ['ignore', log.fd, log.fd], cwd: '/' })
  await log.close()
  await untilListens(child, port, logPath)
  return {
    host,
    url: `http://${host}`,
    pid: child.pid ?? 0,
    blobPath(digest) {
      const [algorithm = '', hex = ''] = digest.split(':')
      return join(dir, 'registry/docker/registry/v2/blobs', algorithm, hex.slice(0, 2), hex, 'data')
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGTERM')
      await once(child, 'exit')
    },
  }
}

const registryConfig = (dir: string, address: string, { tls, withLogin }: RegistryOptions): string =>
  JSON.stringify({
    version: 0.1,
    log: { level: 'warn', accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: join(dir, 'registry') }, delete: { enabled: true } },
    http: { addr: address, ...(tls && { tls: { certificate: tls.certFile, key: tls.keyFile } }) },
    ...(withLogin && { auth: { htpasswd: { realm: 'e2e', path: join(dir, 'passwords') } } }),
  })

async function untilListens(child: ChildProcess, port: number, logPath: string): Promise<void> {
  const failed = once(child, 'error').then(([error]) => Promise.reject(error))
  failed.catch(() => {})
  for (let attempt = 0; attempt < 200; attempt++) {
    if (await Promise.race([isOpen(port), failed])) return
    if (child.exitCode !== null) break
    await sleep(50)
  }
  child.kill('SIGKILL')
  throw new Error(`docker-registry does not listen on port ${port}:\n${await readFile(logPath, 'utf8')}`)
}

const isOpen = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.on('connect', () => resolve(true)).on('error', () => resolve(false))
    socket.on('connect', () => socket.destroy())
  })

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('a TCP server has no port')
  return address.port
}
