/**
 * A TCP proxy before a registry that counts what goes to the client, in small steps so that little is ever under way,
 * and breaks all its connections when told to.
 */

import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

const portOf = (address: string): number => Number.parseInt(address.split(':')[1] ?? '', 16)

const STEP = 64 * 1024

export class CountingProxy implements AsyncDisposable {
  /** Bytes that were given to clients so far. */
  bytes = 0
  readonly #server: Server
  readonly #open = new Set<Socket>()
  readonly #bytesPerMs: number

  private constructor(target: string, bytesPerMs: number) {
    this.#bytesPerMs = bytesPerMs
    const [host = '', port = ''] = target.split(':')
    this.#server = createServer((client) => {
      const upstream = connect(Number(port), host)
      for (const socket of [client, upstream]) {
        this.#open.add(socket)
        socket.on('error', () => {})
        socket.on('close', () => {
          this.#open.delete(socket)
          client.destroy()
          upstream.destroy()
        })
      }
      client.pipe(upstream)
      this.#deliver(upstream, client).catch(() => client.destroy())
    })
  }

  /** @param target "host:port" */
  static async start(target: string, { bytesPerMs }: { bytesPerMs: number }): Promise<CountingProxy> {
    const proxy = new CountingProxy(target, bytesPerMs)
    proxy.#server.listen(0, '127.0.0.1')
    await once(proxy.#server, 'listening')
    return proxy
  }

  get host(): string {
    const address = this.#server.address()
    if (address === null || typeof address === 'string') throw new Error('the proxy has no port')
    return `127.0.0.1:${address.port}`
  }

  /** Breaks all connections. What still lay in the kernel's queues was not received by anybody and is not counted. */
  cut(): void {
    this.bytes -= this.#queued()
    for (const socket of this.#open) socket.resetAndDestroy()
  }

  /** Bytes on their way to clients, on either side, by the kernel's own table. */
  #queued(): number {
    const port = Number(this.host.split(':')[1])
    const [, ...lines] = readFileSync('/proc/net/tcp', 'utf8').trim().split('\n')
    return lines.reduce((sum, line) => {
      const [, local = '', remote = '', , queues = ''] = line.trim().split(/\s+/)
      const [sent = 0, received = 0] = queues.split(':').map((hex) => Number.parseInt(hex, 16))
      if (portOf(local) === port) return sum + sent
      return portOf(remote) === port ? sum + received : sum
    }, 0)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut()
    this.#server.close()
    await once(this.#server, 'close')
  }

  async #deliver(upstream: Socket, client: Socket): Promise<void> {
    for await (const piece of upstream) {
      for (let at = 0; at < piece.length; at += STEP) {
        const step: Buffer = piece.subarray(at, at + STEP)
        this.bytes += step.length
        if (!client.write(step)) await once(client, 'drain')
        await sleep(step.length / this.#bytesPerMs)
      }
    }
    client.end()
  }
}
