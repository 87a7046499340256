/**
 * Sockets that read into one buffer again and again. As Node does it by itself, each read makes a new buffer: 500 MB of layers are 8,000 of them,
 * and the memory behind them makes V8 collect its whole heap twenty times a second.
 */

import type * as http from 'node:http'
import type { OnReadOpts } from 'node:net'

/** Most bytes of one read. A buffer of this size is held for each open connection. */
export const READ_BYTES = 120 * 1024

/**
 * The agent's new connections read so. What an answer's stream gives is then overwritten by the next read, which comes at the earliest when all
 * that was given has been taken: to be copied before anything else is awaited (read-body.ts).
 */
export const readInPlace = (agent: http.Agent): void => {
  const connect = agent.createConnection.bind(agent)
  agent.createConnection = (options, callback) => {
    const onread: OnReadOpts = {
      buffer: Buffer.allocUnsafeSlow(READ_BYTES + 8).subarray(0, READ_BYTES),
      // The parser of answers listens to this event and to nothing else.
      callback: (count, buffer) => socket?.emit('data', buffer.subarray(0, count)) !== undefined,
    }
    // One waiting byte makes the stream of an answer stop the socket: nothing may be read over it.
    const socket = connect({ ...options, ...{ onread, highWaterMark: 1 } }, callback)
    return socket
  }
}
