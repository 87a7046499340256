/** Host ports that pods claim: which addresses of the host each stands for, and when two of them get into each other's way. */
import { isIP, SocketAddress } from 'node:net'
import { RuntimeError } from '#proto/errors.ts'
import type { PortMapping } from '../attachment.ts'

type Family = 4 | 6

/** A port of one address family of the host. */
export interface Claim {
  readonly family: Family
  readonly protocol: PortMapping['protocol']
  /** In canonical form; undefined for every address of the host. */
  readonly hostIP: string | undefined
  readonly hostPort: number
  readonly containerPort: number
}

const ANY: Record<string, Family> = { '0.0.0.0': 4, '::': 6 }

/** One way to write each address, so that texts can be compared. */
const canonical = (address: string, family: Family): string =>
  new SocketAddress({ address, family: family === 4 ? 'ipv4' : 'ipv6' }).address

const isPort = (port: number): boolean => Number.isInteger(port) && port > 0 && port <= 65535

/**
 * What a mapping stands for. No host address means all addresses of both families.
 * @throws RuntimeError invalid-argument naming field and value
 */
export const claimsOf = ({ hostIP, hostPort, containerPort, protocol }: PortMapping): Claim[] => {
  for (const [field, port] of Object.entries({ host_port: hostPort, container_port: containerPort })) {
    if (!isPort(port)) throw refused(field, port, 'must be from 1 to 65535')
  }
  const claim = { protocol, hostPort, containerPort }
  if (hostIP === undefined || hostIP === '') {
    return [4, 6].map((family) => ({ ...claim, family: family === 4 ? 4 : 6, hostIP: undefined }))
  }
  const version = isIP(hostIP)
  if (version === 0 || hostIP.includes('%')) throw refused('host_ip', hostIP, 'must be an IP address without a zone')
  const family = version === 4 ? 4 : 6
  const address = canonical(hostIP, family)
  return [{ ...claim, family, hostIP: ANY[address] === undefined ? address : undefined }]
}

const refused = (field: string, value: unknown, why: string): RuntimeError =>
  new RuntimeError('invalid-argument', `config.port_mappings.${field} ${JSON.stringify(value)} ${why}`)

/** Whether a packet could be meant for either. */
export const overlap = (one: Claim, other: Claim): boolean =>
  one.family === other.family &&
  one.protocol === other.protocol &&
  one.hostPort === other.hostPort &&
  (one.hostIP === undefined || other.hostIP === undefined || one.hostIP === other.hostIP)

/** For messages: `tcp port 8080 of 10.0.0.1`. */
export const claimText = ({ protocol, hostPort, hostIP }: Claim): string =>
  `${protocol} port ${hostPort}${hostIP === undefined ? '' : ` of ${hostIP}`}`
