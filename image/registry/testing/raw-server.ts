/** A server that says exactly the bytes it is told to, whatever HTTP thinks of them, and writes down what it was asked. */

import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'

/** Answers one request; may write for ever, or nothing. */
export type Script = (socket: Socket, request: string) => void | Promise<void>

export class RawServer implements AsyncDisposable {
  /** Heads of the requests, as they came. */
  readonly requests: string[] = []
  readonly #server: Server
  readonly #open = new Set<Socket>()

  private constructor(script: Script) {
    this.#server = createServer((socket) => {
      this.#open.add(socket)
      socket.on('close', () => this.#open.delete(socket)).on('error', () => {})
      let text = ''
      socket.on('data', (piece) => {
        text += piece.toString('latin1')
        if (!text.includes('\r\n\r\n')) return
        this.requests.push(text)
        const request = text
        text = ''
        void Promise.resolve(script(socket, request)).catch(() => socket.destroy())
      })
    })
  }

  static async start(script: Script): Promise<RawServer> {
    const server = new RawServer(script)
    server.#server.listen(0, '127.0.0.1')
    await once(server.#server, 'listening')
    return server
  }

  get host(): string {
    const address = this.#server.address()
    if (address === null || typeof address === 'string') throw new Error('the server has no port')
    return `127.0.0.1:${address.port}`
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#open) socket.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}

/** Writes until the other side has had enough. */
export const endlessly = async (socket: Socket, piece: string): Promise<void> => {
  while (!socket.destroyed) {
    if (!socket.write(piece) && !socket.closed) await Promise.race([once(socket, 'drain'), once(socket, 'close')])
  }
}
