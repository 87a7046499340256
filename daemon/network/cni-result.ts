/** What an ADD chain ends with: the CNI result in its own words, and what the rest of the daemon needs of it. */
import { isIP } from 'node:net'
import * as z from 'zod'
import { RuntimeError } from '#proto/errors.ts'
import { POD_INTERFACE } from './attachment.ts'

/** A result of CNI 0.3.0 to 1.1.0. Plugins may leave out every list, and write null for none. */
export const CniResult = z.looseObject({
  cniVersion: z.string().optional(),
  interfaces: z
    .array(z.looseObject({ name: z.string(), mac: z.string().optional(), sandbox: z.string().optional() }))
    .nullish(),
  ips: z.array(z.looseObject({ address: z.string(), interface: z.number().int().nullish() })).nullish(),
  dns: z
    .looseObject({
      nameservers: z.array(z.string()).nullish(),
      domain: z.string().nullish(),
      search: z.array(z.string()).nullish(),
      options: z.array(z.string()).nullish(),
    })
    .nullish(),
})
export type CniResult = z.infer<typeof CniResult>

export interface NetworkInterface {
  name: string
  mac?: string
  /** The path of the network namespace that it is in; absent for an interface of the host. */
  sandbox?: string
}

export interface NetworkResult {
  /** Addresses of the pod without mask, those of eth0 first, else in the plugins' order. Never empty. */
  ips: string[]
  interfaces: NetworkInterface[]
  /** What the network, not the pod, says about names. */
  dns?: { nameservers: string[]; domain?: string; search: string[]; options: string[] }
  /** What the last plugin returned: handed back to the plugins by CHECK and DEL. */
  raw: CniResult
}

const addressOf = (cidr: string): string => {
  const address = cidr.split('/', 1)[0] ?? ''
  if (isIP(address) !== 0) return address
  throw new RuntimeError(
    'internal',
    `The CNI result has ${JSON.stringify(cidr.slice(0, 80))} where an IP address belongs`,
  )
}

/** 0 for addresses of eth0, 1 for other interfaces of the pod, undefined for addresses that are not the pod's. */
const rankOf = (index: number | null | undefined, interfaces: readonly NetworkInterface[]): number | undefined => {
  if (index === undefined || index === null) return 0
  const owner = interfaces[index]
  if (owner === undefined) return 0
  if (owner.sandbox === undefined) return undefined
  return owner.name === POD_INTERFACE ? 0 : 1
}

const podIps = (ips: NonNullable<CniResult['ips']>, interfaces: readonly NetworkInterface[]): string[] => {
  const ranked = ips.flatMap((ip) => {
    const address = addressOf(ip.address)
    const rank = rankOf(ip.interface, interfaces)
    return rank === undefined ? [] : [{ rank, address }]
  })
  return [...new Set(ranked.sort((a, b) => a.rank - b.rank).map(({ address }) => address))]
}

const dnsOf = (dns: NonNullable<CniResult['dns']>): NonNullable<NetworkResult['dns']> => ({
  nameservers: dns.nameservers ?? [],
  search: dns.search ?? [],
  options: dns.options ?? [],
  ...(dns.domain && { domain: dns.domain }),
})

/**
 * Reads the result of the whole chain.
 * @throws RuntimeError internal when it has no address for the pod, or something that is no address
 */
export const networkResult = (raw: CniResult): NetworkResult => {
  const interfaces = (raw.interfaces ?? []).map(({ name, mac, sandbox }) => ({
    name,
    ...(mac && { mac }),
    ...(sandbox && { sandbox }),
  }))
  const ips = podIps(raw.ips ?? [], interfaces)
  if (ips.length === 0) throw new RuntimeError('internal', 'The CNI plugins gave the pod no IP address')
  return { ips, interfaces, ...(raw.dns && { dns: dnsOf(raw.dns) }), raw }
}

/** The bits of an address that its network shares, as the result has them; all of its bits when it says nothing. */
export const prefixLengthOf = (raw: CniResult, address: string): number => {
  const bits = isIP(address) === 4 ? 32 : 128
  const cidr = raw.ips?.find((ip) => ip.address.startsWith(`${address}/`))?.address
  const length = Number(cidr?.split('/', 2)[1] ?? bits)
  return Number.isInteger(length) && length >= 0 && length <= bits ? length : bits
}
