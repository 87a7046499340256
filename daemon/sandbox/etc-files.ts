/** The files under /etc that a pod's containers get from the runtime: hostname, resolv.conf, hosts. */
import { chown, readFile } from 'node:fs/promises'
import { hostname as nodeName } from 'node:os'
import { RuntimeError } from '#proto/errors.ts'
import type { DNSConfig, PodSandboxConfig } from '#proto/generated/api.ts'
import { writeNamedFile } from '#storage/write-file.ts'
import type { SandboxPaths } from '../paths.ts'
import { podIdMap, podNamespaces } from './sandbox.ts'
import { rootOf } from './user-namespaces.ts'

/** The longest label of DNS, to which the kubelet cuts pod names as well. */
const maxLabel = 63

/** What the pod sees as its host name: the node's on the host network, else as asked, else the pod's name. */
export function podHostname(config: PodSandboxConfig): string {
  if (podNamespaces(config).hostNetwork) return nodeName()
  return config.hostname || (config.metadata?.name ?? '').slice(0, maxLabel).replace(/[-.]+$/, '')
}

/** Write hostname and resolv.conf; they are known before the network is. */
export async function writeEtcFiles(paths: SandboxPaths, config: PodSandboxConfig): Promise<void> {
  await write(paths.hostname, `${podHostname(config)}\n`, config)
  await write(paths.resolvConf, await resolvConf(config.dnsConfig), config)
}

/**
 * Write hosts, once the addresses are known. The kubelet mounts a file of its own over it, except into pods of the host
 * network that do not ask for one, and pods started by other clients.
 */
export async function writeHosts(paths: SandboxPaths, config: PodSandboxConfig, ips: readonly string[]): Promise<void> {
  const text = podNamespaces(config).hostNetwork ? await hostFile('/etc/hosts') : hosts(podHostname(config), ips)
  await write(paths.hosts, text, config)
}

/** The files are the pod's own: its root may change them. */
async function write(path: string, text: string, config: PodSandboxConfig): Promise<void> {
  await writeNamedFile(path, text, 0o644)
  const { uid, gid } = rootOf(podIdMap(config))
  if (uid !== 0 || gid !== 0) await chown(path, uid, gid)
}

const hosts = (hostname: string, ips: readonly string[]): string =>
  [
    '127.0.0.1\tlocalhost',
    '::1\tlocalhost ip6-localhost ip6-loopback',
    'fe00::0\tip6-localnet',
    'ff02::1\tip6-allnodes',
    'ff02::2\tip6-allrouters',
    ...ips.map((ip) => `${ip}\t${hostname}`),
    '',
  ].join('\n')

async function resolvConf(dns: DNSConfig | undefined): Promise<string> {
  if (!dns || (!dns.servers.length && !dns.searches.length && !dns.options.length)) return hostFile('/etc/resolv.conf')
  const lines = dns.servers.map((server) => `nameserver ${oneWord('servers', server)}`)
  if (dns.searches.length) lines.push(`search ${dns.searches.map((word) => oneWord('searches', word)).join(' ')}`)
  if (dns.options.length) lines.push(`options ${dns.options.map((word) => oneWord('options', word)).join(' ')}`)
  return `${lines.join('\n')}\n`
}

/** A value that would break out of its line could add name servers of its own. */
function oneWord(field: string, value: string): string {
  if (/^[^\s\0]+$/.test(value)) return value
  throw new RuntimeError(
    'invalid-argument',
    `dns_config.${field} holds ${JSON.stringify(value)}, which is not one word`,
  )
}

/** A host may have no such file; the pod then gets an empty one. */
async function hostFile(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch {
    return ''
  }
}
