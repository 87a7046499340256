/** The pools of open sockets: one per connection setting and way (direct or through a proxy), few and not for ever. */

import * as http from 'node:http'
import * as https from 'node:https'
import { type Connection, tlsOptions } from './connections.ts'
import { readInPlace } from './read-in-place.ts'

interface Pool {
  readonly agent: http.Agent | https.Agent
}

/** More than the endpoints that are in use at one time on any node; each idle pool is a few kilobytes. */
const MAX_POOLS = 64
/** Proxies and balancers drop idle sockets silently after a minute or so. */
const IDLE_MS = 30_000

export class Agents {
  readonly #pools = new Map<string, Pool>()

  /** @param proxy address of the proxy, when there is one for this request */
  get(secure: boolean, connection: Connection, proxy: string | undefined): http.Agent | https.Agent {
    const key = `${secure ? `tls ${connection.key}` : 'plain'} ${proxy ?? ''}`
    const pool = this.#pools.get(key) ?? { agent: makeAgent(secure, connection, proxy) }
    // Back to the end: the first is the one not used for longest.
    this.#pools.delete(key)
    this.#pools.set(key, pool)
    if (this.#pools.size > MAX_POOLS) this.#dropOne()
    return pool.agent
  }

  close(): void {
    for (const { agent } of this.#pools.values()) agent.destroy()
    this.#pools.clear()
  }

  /** The longest unused one that nobody reads from. */
  #dropOne(): void {
    for (const [key, { agent }] of this.#pools) {
      if (Object.keys(agent.sockets).length > 0) continue
      agent.destroy()
      this.#pools.delete(key)
      return
    }
  }
}

const makeAgent = (secure: boolean, connection: Connection, proxy: string | undefined): http.Agent | https.Agent => {
  const options = {
    keepAlive: true,
    timeout: IDLE_MS,
    ...(proxy !== undefined && { proxyEnv: { HTTP_PROXY: proxy, HTTPS_PROXY: proxy } }),
  }
  const agent = secure ? new https.Agent({ ...options, ...tlsOptions(connection) }) : new http.Agent(options)
  // What a proxy's tunnel is made of is Node's affair.
  if (proxy === undefined) readInPlace(agent)
  return agent
}
