/**
 * The nftables rules that lead host ports to pods, as the text of one transaction: pure, so that tests can read it. The
 * table is ours alone and is replaced as a whole; connections that exist live in the connection tracking and do not notice.
 */
import { createHash } from 'node:crypto'
import type { Claim } from './claim.ts'

/** The address of a pod, and how many of its leading bits it shares with the other pods of its network here. */
export interface PodAddress {
  readonly family: 4 | 6
  readonly address: string
  readonly prefixLength: number
}

/** One pod with what it claims. Claims of a family that it has no address of lead nowhere. */
export interface PublishedPod {
  readonly claims: readonly Claim[]
  readonly addresses: readonly PodAddress[]
}

/** The name of the table: daemons with other directories have tables of their own. */
export const tableName = (root: string): string =>
  root === '/var/lib/cricket' ? 'cricket' : `cricket_${createHash('sha256').update(root).digest('hex').slice(0, 8)}`

/** The text that takes the table away. The first line makes the second one succeed when there is none. */
export const tableRemoval = (table: string): string => `add table inet ${table}\ndelete table inet ${table}\n`

const set = (kind: 'map' | 'set', name: string, type: string, elements: readonly string[], flags = ''): string => {
  const unique = [...new Set(elements)].sort()
  const content = unique.length > 0 ? `\n    elements = {\n      ${unique.join(',\n      ')}\n    }` : ''
  return `  ${kind} ${name} {\n    type ${type}${flags && `\n    flags ${flags}`}${content}\n  }\n`
}

const setsOf = (family: 4 | 6, pods: readonly PublishedPod[]): string => {
  const type = `ipv${family}_addr`
  const everywhere: string[] = []
  const oneAddress: string[] = []
  const neighbours: string[] = []
  for (const { claims, addresses } of pods) {
    const pod = addresses.find((address) => address.family === family)
    if (pod === undefined) continue
    const own = claims.filter((claim) => claim.family === family)
    for (const { protocol, hostIP, hostPort, containerPort } of own) {
      const target = `${pod.address} . ${containerPort}`
      if (hostIP === undefined) everywhere.push(`${protocol} . ${hostPort} : ${target}`)
      else oneAddress.push(`${hostIP} . ${protocol} . ${hostPort} : ${target}`)
    }
    if (own.length > 0) neighbours.push(`${pod.address}/${pod.prefixLength} . ${pod.address}`)
  }
  return [
    set('map', `ports${family}`, `inet_proto . inet_service : ${type} . inet_service`, everywhere),
    set('map', `address_ports${family}`, `${type} . inet_proto . inet_service : ${type} . inet_service`, oneAddress),
    set('set', `neighbours${family}`, `${type} . ${type}`, neighbours, 'interval'),
  ].join('')
}

/**
 * The chains. `guard` closes what reaching pods from 127.0.0.1 opens (CVE-2020-8558): the interface to the pods must route
 * loopback addresses for that, and without the rule a pod, or the network, could send to services that listen on loopback only.
 * There is no such way for ::1, which the kernel never lets leave the host. Sources are masqueraded where the answer would
 * not come back this way: from loopback, and from the pod itself or its neighbours, who would answer each other directly.
 */
const CHAINS = `  chain publish {
    ip6 daddr ::1 return
    meta nfproto ipv4 meta l4proto { tcp, udp, sctp } dnat ip to ip daddr . meta l4proto . th dport map @address_ports4
    meta nfproto ipv4 meta l4proto { tcp, udp, sctp } dnat ip to meta l4proto . th dport map @ports4
    meta nfproto ipv6 meta l4proto { tcp, udp, sctp } dnat ip6 to ip6 daddr . meta l4proto . th dport map @address_ports6
    meta nfproto ipv6 meta l4proto { tcp, udp, sctp } dnat ip6 to meta l4proto . th dport map @ports6
  }
  chain prerouting {
    type nat hook prerouting priority -100
    fib daddr type local jump publish
  }
  chain output {
    type nat hook output priority -100
    fib daddr type local jump publish
  }
  chain postrouting {
    type nat hook postrouting priority 100
    ct status dnat ip saddr 127.0.0.0/8 masquerade
    ct status dnat ip saddr . ip daddr @neighbours4 masquerade
    ct status dnat ip6 saddr . ip6 daddr @neighbours6 masquerade
  }
  chain guard {
    type filter hook prerouting priority -300
    iifname != "lo" ip daddr 127.0.0.0/8 drop
  }
`

/** The text that makes the table lead to exactly these pods, whatever was in it; no table when there are none. */
export const tableFor = (table: string, pods: readonly PublishedPod[]): string => {
  if (pods.length === 0) return tableRemoval(table)
  return `${tableRemoval(table)}table inet ${table} {\n${setsOf(4, pods)}${setsOf(6, pods)}${CHAINS}}\n`
}
