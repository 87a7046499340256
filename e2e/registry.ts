/** A real registry (Debian's docker-registry) on a free loopback port, its files in a directory of the caller's. */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { open, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
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

/** Starts it and waits until it answers. `dir` must exist. */
export async function startRegistry(dir: string): Promise<Registry> {
  const port = await freePort()
  const host = `127.0.0.1:${port}`
  const configPath = join(dir, 'registry.yml')
  const logPath = join(dir, 'registry.log')
  await writeFile(configPath, registryConfig(join(dir, 'registry'), host))
  const log = await open(logPath, 'a')
  const child = spawn('docker-registry', ['serve', configPath], { stdio: ['ignore', log.fd, log.fd], cwd: '/' })
  await log.close()
  await untilAnswers(child, `http://${host}/v2/`, logPath)
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

const registryConfig = (rootDirectory: string, address: string) => `version: 0.1
log: { level: warn, accesslog: { disabled: true } }
storage:
  filesystem: { rootdirectory: ${rootDirectory} }
  delete: { enabled: true }
http: { addr: '${address}' }
`

async function untilAnswers(child: ChildProcess, url: string, logPath: string): Promise<void> {
  const failed = once(child, 'error').then(([error]) => Promise.reject(error))
  failed.catch(() => {})
  for (let attempt = 0; attempt < 200; attempt++) {
    const answer = await Promise.race([fetch(url).catch(() => undefined), failed])
    if (answer?.ok) return
    if (child.exitCode !== null) break
    await sleep(50)
  }
  child.kill('SIGKILL')
  throw new Error(`docker-registry does not answer at '${url}':\n${await readFile(logPath, 'utf8')}`)
}

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
