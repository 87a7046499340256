/** What clients are told of the address that the streaming server listens on. */
import { isIPv6 } from 'node:net'
import { hostname, networkInterfaces } from 'node:os'

const wildcards = new Set(['0.0.0.0', '::'])

/** Addresses of this host that others can reach, without those that need a scope. */
const outerAddresses = (): string[] =>
  Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .filter((each) => !each.internal && !(each.family === 'IPv6' && each.scopeid !== 0))
    .filter((each) => each.family === 'IPv4' || !each.address.startsWith('fe80'))
    .map(({ address }) => address)

/** Of a server on all addresses, the first one that others can reach; IPv4 when it listens on that alone. */
export const publicAddress = (listening: string): string => {
  if (!wildcards.has(listening)) return listening
  const found = outerAddresses().find((address) => listening === '::' || !isIPv6(address))
  return found ?? (listening === '::' ? '::1' : '127.0.0.1')
}

/** What a certificate made for the server is valid for. */
export const certificateNames = (listening: string): string[] => [
  hostname(),
  'localhost',
  ...new Set(['127.0.0.1', '::1', ...(wildcards.has(listening) ? outerAddresses() : [listening])]),
]

/** `https://[fd00::1]:10010`. */
export const baseUrl = (listening: string, port: number, isTls: boolean): string => {
  const address = publicAddress(listening)
  return `${isTls ? 'https' : 'http'}://${isIPv6(address) ? `[${address}]` : address}:${port}`
}
