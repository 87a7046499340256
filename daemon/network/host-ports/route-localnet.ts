/** Lets 127.0.0.1 reach a pod: the kernel drops packets from loopback addresses on an interface that is not told otherwise. */
import { readFileSync, writeFileSync } from 'node:fs'

const ROUTE_UP = 1

interface Route {
  device: string
  /** As in the table: network byte order read as a number of this host. */
  destination: number
  mask: number
}

const routesIn = (table: string): Route[] =>
  table
    .trim()
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const [device = '', destination = '', , flags = '', , , , mask = ''] = line.split('\t')
      const [to, bits] = [Number.parseInt(destination, 16), Number.parseInt(mask, 16)]
      return (Number.parseInt(flags, 16) & ROUTE_UP) !== 0 ? [{ device, destination: to, mask: bits }] : []
    })

const numberOf = (address: string): number => Buffer.from(address.split('.').map(Number)).readUInt32LE()

const bitsIn = (mask: number): number => mask.toString(2).replaceAll('0', '').length

/** The device of the most specific route to an IPv4 address in a table like /proc/net/route. */
export const deviceTo = (address: string, table: string): string | undefined => {
  const target = numberOf(address)
  const matching = routesIn(table).filter(({ destination, mask }) => (target & mask) >>> 0 === destination)
  return matching.sort((a, b) => bitsIn(b.mask) - bitsIn(a.mask))[0]?.device
}

/**
 * Has the device towards this IPv4 address route loopback addresses.
 * @returns the device; undefined when no route leads there, and so nothing could be done
 */
export const routeLocalnetTo = (address: string): string | undefined => {
  const device = deviceTo(address, readFileSync('/proc/net/route', 'utf8'))
  if (device !== undefined && device !== 'lo') {
    writeFileSync(`/proc/sys/net/ipv4/conf/${device}/route_localnet`, '1')
  }
  return device
}
