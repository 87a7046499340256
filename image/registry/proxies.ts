/**
 * Whether a request goes through a proxy: HTTP_PROXY, HTTPS_PROXY and NO_PROXY as Go programs read them, so that a node's
 * existing settings mean here what they mean elsewhere.
 */

import { BlockList, isIP, isIPv4 } from 'node:net'

export interface ProxySettings {
  /** Address of the proxy for http:// addresses; may hold user and password. */
  readonly http?: string
  readonly https?: string
  /** Hosts, domains, addresses and address ranges that are reached directly, separated by commas. */
  readonly no?: string
}

/** From environment variables in either case; the lower-case one wins. */
export const proxiesOf = (env: Readonly<Record<string, string | undefined>>): ProxySettings => {
  const read = (name: string): string | undefined => env[name] || env[name.toUpperCase()] || undefined
  const [http, https, no] = [read('http_proxy'), read('https_proxy'), read('no_proxy')]
  return { ...(http && { http }), ...(https && { https }), ...(no && { no }) }
}

/** The proxy for this address, if it has one. Loopback never goes through a proxy. */
export const proxyFor = (url: URL, settings: ProxySettings): string | undefined => {
  const host = url.hostname.replace(/^\[|\]$/g, '').toLowerCase()
  if (host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'))) return undefined
  const proxy = url.protocol === 'https:' ? settings.https : settings.http
  if (!proxy) return undefined
  const port = url.port || (url.protocol === 'https:' ? '443' : '80')
  const exceptions = (settings.no ?? '').split(',').map((entry) => entry.trim().toLowerCase())
  return exceptions.some((entry) => isException(entry, host, port)) ? undefined : proxy
}

/** "*", "10.0.0.0/8", "10.1.2.3", "example.com" (and below it), ".example.com" (only below it), each with ":port" or not. */
const isException = (entry: string, host: string, port: string): boolean => {
  if (entry === '') return false
  if (entry === '*') return true
  if (entry.includes('/')) return isInRange(entry, host)
  const found = /^\[?(.*?)\]?(?::(\d+))?$/.exec(isIP(entry) === 6 ? `[${entry}]` : entry)
  const [, name = '', onlyPort] = found ?? []
  if (onlyPort !== undefined && onlyPort !== port) return false
  if (isIP(host) !== 0) return name === host
  const domain = name.replace(/^\*?\./, '')
  return host.endsWith(`.${domain}`) || (host === domain && domain === name)
}

const isInRange = (range: string, host: string): boolean => {
  const [address = '', prefix = ''] = range.split('/')
  const family = isIP(host)
  if (family === 0 || isIP(address) !== family || !/^\d{1,3}$/.test(prefix)) return false
  const bits = Number(prefix)
  if (bits > (family === 6 ? 128 : 32)) return false
  const list = new BlockList()
  const kind = family === 6 ? 'ipv6' : 'ipv4'
  list.addSubnet(address, bits, kind)
  return list.check(host, kind)
}
