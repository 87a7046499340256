/**
 * What kind of place an IP address is, to keep registries from sending us to the machine's own services or to a cloud's
 * metadata server. Pure.
 */

import { BlockList, isIP } from 'node:net'

export type AddressClass = 'public' | 'private' | 'loopback' | 'forbidden'

const subnets = (...lists: readonly [address: string, prefix: number][]): BlockList => {
  const list = new BlockList()
  for (const [address, prefix] of lists) list.addSubnet(address, prefix, address.includes(':') ? 'ipv6' : 'ipv4')
  return list
}

const loopback = subnets(['127.0.0.0', 8], ['::1', 128])
/** Link-local (with the metadata service), unspecified, multicast, reserved; the IPv6 metadata address of one cloud. */
const forbidden = subnets(
  ['0.0.0.0', 8],
  ['169.254.0.0', 16],
  ['224.0.0.0', 3],
  ['::', 128],
  ['fe80::', 10],
  ['fec0::', 10],
  ['ff00::', 8],
  ['fd00:ec2::254', 128],
)
const privateUse = subnets(['10.0.0.0', 8], ['172.16.0.0', 12], ['192.168.0.0', 16], ['100.64.0.0', 10], ['fc00::', 7])

/** @param address as the system writes it, without brackets or zone; anything else is 'forbidden' */
export const addressClass = (address: string): AddressClass => {
  const family = isIP(address)
  if (family === 0) return 'forbidden'
  if (family === 6) {
    const embedded = embeddedIpv4(address)
    if (embedded !== undefined) return addressClass(embedded)
  }
  const kind = family === 6 ? 'ipv6' : 'ipv4'
  if (loopback.check(address, kind)) return 'loopback'
  if (forbidden.check(address, kind)) return 'forbidden'
  return privateUse.check(address, kind) ? 'private' : 'public'
}

/** IPv4 in IPv6 clothes: mapped (::ffff:0:0/96), compatible (::/96) and NAT64 (64:ff9b::/96). */
const embeddedIpv4 = (address: string): string | undefined => {
  const words = wordsOf(address)
  const head = words.slice(0, 6).join(':')
  if (head !== '0:0:0:0:0:ffff' && head !== '64:ff9b:0:0:0:0' && head !== '0:0:0:0:0:0') return undefined
  const [high = 0, low = 0] = words.slice(6).map((word) => Number.parseInt(word, 16))
  if (head === '0:0:0:0:0:0' && high === 0 && low <= 1) return undefined
  return [high >> 8, high & 255, low >> 8, low & 255].join('.')
}

/** The eight words in lower-case hex without leading zeros. `isIP` has said yes before. */
const wordsOf = (address: string): string[] => {
  // The URL parser normalises every spelling to the shortest one, IPv4 tails included.
  const short = new URL(`http://[${address.split('%', 1).join('')}]/`).hostname.slice(1, -1)
  const [left = '', right] = short.split('::')
  const before = left === '' ? [] : left.split(':')
  const after = right === undefined || right === '' ? [] : right.split(':')
  return [...before, ...Array.from({ length: 8 - before.length - after.length }, () => '0'), ...after]
}
