/**
 * Kernel parameters that a pod may set: only those that live in a namespace of the pod's own. What lives in the node's
 * namespace would change the node (CVE-2022-0532).
 */
import { invalid, quoted } from './refuse.ts'

export interface PodSysctl {
  /** With dots, as in "net.ipv4.ip_forward". */
  readonly name: string
  /** Where the value is written, within the namespace. */
  readonly path: string
  readonly value: string
  readonly namespace: 'net' | 'ipc'
}

export interface SharedNamespaces {
  readonly hostNetwork: boolean
  readonly hostIpc: boolean
}

const MAX_SYSCTLS = 256
const MAX_NAME_CHARACTERS = 256

const NAME = /^[a-z0-9_]+([./][a-z0-9_-]+)+$/i
/** Words, numbers, lists and IPv6 addresses; nothing that could end the value for anybody who handles it. */
const VALUE = /^[A-Za-z0-9_.:,\t -]{1,1024}$/

/** @throws RuntimeError invalid-argument naming the first one that is not allowed */
export const podSysctls = (sysctls: Readonly<Record<string, string>>, shared: SharedNamespaces): PodSysctl[] => {
  const entries = Object.entries(sysctls)
  if (entries.length > MAX_SYSCTLS) throw invalid(`sysctls has ${entries.length} entries, more than ${MAX_SYSCTLS}`)
  const byPath = new Map<string, PodSysctl>()
  for (const [key, value] of entries) {
    const sysctl = podSysctl(key, value, shared)
    // "net.ipv4.x" and "net/ipv4/x" are one parameter: which value would win is anybody's guess.
    if (byPath.has(sysctl.path)) throw invalid(`sysctls has ${quoted(key)} in two spellings`)
    byPath.set(sysctl.path, sysctl)
  }
  return [...byPath.values()]
}

const podSysctl = (key: string, value: string, shared: SharedNamespaces): PodSysctl => {
  if (key.length > MAX_NAME_CHARACTERS || !NAME.test(key)) throw invalid(`sysctls has the key ${quoted(key)}`)
  if (!VALUE.test(value)) throw invalid(`sysctls ${quoted(key)} has the malformed value ${quoted(value)}`)
  const path = segments(key)
  const namespace = namespaceOf(path)
  if (!namespace) throw invalid(`sysctls ${quoted(key)} is not allowed: it does not belong to a namespace of the pod`)
  if (namespace === 'net' && shared.hostNetwork) {
    throw invalid(`sysctls ${quoted(key)} is not allowed with the network of the node`)
  }
  if (namespace === 'ipc' && shared.hostIpc) {
    throw invalid(`sysctls ${quoted(key)} is not allowed with the IPC namespace of the node`)
  }
  return { name: path.join('.'), path: `/proc/sys/${path.join('/')}`, value, namespace }
}

/**
 * As sysctl(8) reads names: the first separator says which of the two separates, and the other one then stands for the
 * first, so that "net/ipv4/conf/eth0.100/mtu" and "net.ipv4.conf.eth0/100.mtu" both name the interface eth0.100.
 */
const segments = (key: string): string[] => {
  const isDotted = /[./]/.exec(key)?.[0] === '.'
  return isDotted ? key.split('.').map((part) => part.replaceAll('/', '.')) : key.split('/')
}

const namespaceOf = ([first = '', second = '', ...rest]: readonly string[]): PodSysctl['namespace'] | undefined => {
  if (first === 'net') return 'net'
  if (first === 'fs' && second === 'mqueue' && rest.length > 0) return 'ipc'
  if (first === 'kernel' && rest.length === 0 && (second === 'sem' || /^(shm|msg)[a-z_]+$/.test(second))) return 'ipc'
  return undefined
}
