/** The socket that plugins connect to: root's alone, in a directory of its own. Whoever connects can change every container of the node. */
import { mkdir } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { dirname } from 'node:path'
import type { Log } from '#proto/log.ts'
import { listenOnPath } from '../listen-on-path.ts'

export interface PluginSocket {
  /** Nobody can connect any more. */
  close(): void
}

/** @throws RuntimeError failed-precondition when another process listens there, or something else has the name */
export async function openPluginSocket(
  path: string,
  accept: (socket: Socket) => void,
  log: Log,
): Promise<PluginSocket> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const server = await listenOnPath(path, 0o600, accept, log)
  return { close: () => void server.close() }
}
