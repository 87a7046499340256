/**
 * Which capabilities the process gets. Inheritable and ambient sets stay empty unless ambient ones are asked for: a
 * non-empty inheritable set would give capabilities to non-root users through file capabilities (CVE-2022-27652).
 */
import type { Capability } from '#proto/generated/api.ts'
import { impossible, invalid, quoted } from './refuse.ts'
import type { OciCapabilities } from './types.ts'

/** Every capability of Linux by number. */
export const ALL_CAPABILITIES: readonly string[] =
  `CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
  NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
  SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
  MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE`
    .split(/\s+/)
    .map((name) => `CAP_${name}`)

/** CRI-O's set: without MKNOD, NET_RAW, SETFCAP, SYS_CHROOT and AUDIT_WRITE, which containerd still gives. */
export const DEFAULT_CAPABILITIES: readonly string[] = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FSETID',
  'CAP_FOWNER',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETPCAP',
  'CAP_NET_BIND_SERVICE',
  'CAP_KILL',
]

const KNOWN = new Set(ALL_CAPABILITIES)

export interface CapabilityInput {
  readonly privileged: boolean
  readonly requested: Capability | undefined
  /** What the daemon can hand on. */
  readonly host: readonly string[]
}

/**
 * Order as in CRI-O: "ALL" is added, then "ALL" is dropped, then single ones are added, then single ones are dropped.
 * @throws RuntimeError invalid-argument for names that do not exist, failed-precondition for those the host lacks
 */
export const capabilities = ({ privileged, requested, host }: CapabilityInput): OciCapabilities => {
  if (privileged) return sets(new Set(host), [])
  const add = parse('add_capabilities', requested?.addCapabilities)
  const drop = parse('drop_capabilities', requested?.dropCapabilities)
  const ambient = parse('add_ambient_capabilities', requested?.addAmbientCapabilities)
  if (ambient.all) throw invalid('add_ambient_capabilities has "ALL", which is not offered')

  const available = new Set(host)
  let granted = new Set(DEFAULT_CAPABILITIES.filter((name) => available.has(name)))
  if (add.all) granted = new Set(host)
  if (drop.all) granted = new Set()
  for (const name of [...add.names, ...ambient.names]) {
    if (!available.has(name)) throw impossible(`Cannot add capability "${name}": this host does not have it`)
    granted.add(name)
  }
  for (const name of drop.names) granted.delete(name)
  for (const name of ambient.names) {
    if (!granted.has(name)) throw invalid(`Capability "${name}" is both ambient and dropped`)
  }
  return sets(granted, [...ambient.names])
}

const parse = (field: string, names: readonly string[] = []): { all: boolean; names: Set<string> } => {
  const parsed = new Set<string>()
  let all = false
  for (const name of names) {
    const upper = name.toUpperCase()
    const full = upper.startsWith('CAP_') ? upper : `CAP_${upper}`
    if (full === 'CAP_ALL') all = true
    else if (KNOWN.has(full)) parsed.add(full)
    else throw invalid(`${field} has ${quoted(name)}, which is no capability`)
  }
  return { all, names: parsed }
}

const sets = (granted: ReadonlySet<string>, ambient: readonly string[]): OciCapabilities => {
  const inOrder = ALL_CAPABILITIES.filter((name) => granted.has(name))
  return { bounding: inOrder, effective: inOrder, permitted: inOrder, inheritable: ambient, ambient }
}
