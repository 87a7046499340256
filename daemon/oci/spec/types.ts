/** The part of the OCI runtime specification (config.json) that we emit. Numbers are what JSON of Go can hold exactly. */

export interface OciSpec {
  readonly ociVersion: string
  readonly root: { readonly path: string; readonly readonly: boolean }
  readonly hostname?: string
  readonly process: OciProcess
  readonly mounts: readonly OciMount[]
  readonly annotations: Readonly<Record<string, string>>
  readonly hooks?: OciHooks
  readonly linux: OciLinux
}

export interface OciProcess {
  readonly terminal: boolean
  readonly user: OciUser
  readonly args: readonly string[]
  /** "KEY=value", each key once. */
  readonly env: readonly string[]
  readonly cwd: string
  readonly capabilities: OciCapabilities
  readonly noNewPrivileges: boolean
  readonly oomScoreAdj: number
  /** Where further processes of the container start to run (runtime-spec 1.2.1). */
  readonly execCPUAffinity?: { readonly initial: string }
  readonly rlimits?: readonly OciRlimit[]
  /** "IOPRIO_CLASS_BE" and such (runtime-spec 1.1). */
  readonly ioPriority?: { readonly class: string; readonly priority: number }
  readonly scheduler?: OciScheduler
  readonly apparmorProfile?: string
  readonly selinuxLabel?: string
}

/** Runtime-spec 1.1. */
export interface OciScheduler {
  /** "SCHED_FIFO" and such. */
  readonly policy: string
  readonly nice?: number
  readonly priority?: number
  readonly flags?: readonly string[]
  readonly runtime?: bigint
  readonly deadline?: bigint
  readonly period?: bigint
}

/** Infinity is "no limit"; see `specText`. */
export interface OciRlimit {
  /** "RLIMIT_NOFILE". */
  readonly type: string
  readonly soft: number
  readonly hard: number
}

export interface OciHook {
  readonly path: string
  /** The first is the program's name. */
  readonly args?: readonly string[]
  readonly env?: readonly string[]
  /** Seconds. */
  readonly timeout?: number
}

export const HOOK_STAGES = [
  'prestart',
  'createRuntime',
  'createContainer',
  'startContainer',
  'poststart',
  'poststop',
] as const

export type OciHooks = Readonly<Partial<Record<(typeof HOOK_STAGES)[number], readonly OciHook[]>>>

export interface OciUser {
  readonly uid: number
  readonly gid: number
  readonly additionalGids: readonly number[]
  readonly umask?: number
}

export interface OciCapabilities {
  readonly bounding: readonly string[]
  readonly effective: readonly string[]
  readonly permitted: readonly string[]
  readonly inheritable: readonly string[]
  readonly ambient: readonly string[]
}

export interface OciMount {
  readonly destination: string
  readonly type: string
  readonly source: string
  readonly options: readonly string[]
  readonly uidMappings?: readonly OciIdMapping[]
  readonly gidMappings?: readonly OciIdMapping[]
}

export interface OciLinux {
  readonly namespaces: readonly OciNamespace[]
  readonly uidMappings?: readonly OciIdMapping[]
  readonly gidMappings?: readonly OciIdMapping[]
  readonly sysctl?: Readonly<Record<string, string>>
  readonly devices: readonly OciDevice[]
  readonly cgroupsPath: string
  readonly resources: OciResources
  readonly rootfsPropagation?: string
  readonly seccomp?: OciSeccomp
  readonly maskedPaths: readonly string[]
  readonly readonlyPaths: readonly string[]
  readonly mountLabel?: string
  readonly intelRdt?: Partial<OciRdt>
  /** Devices of the node's network by their names there (runtime-spec 1.3). */
  readonly netDevices?: Readonly<Record<string, { readonly name?: string }>>
  /** Runtime-spec 1.3. */
  readonly memoryPolicy?: { readonly mode: string; readonly nodes?: string; readonly flags?: readonly string[] }
}

/** A class of resctrl; without a schema it must be there already. */
export interface OciRdt {
  readonly closID: string
  /** Runtime-spec 1.3. */
  readonly schemata?: readonly string[]
  readonly enableMonitoring?: boolean
  readonly l3CacheSchema?: string
  readonly memBwSchema?: string
}

export interface OciNamespace {
  readonly type: 'pid' | 'network' | 'ipc' | 'uts' | 'mount' | 'user' | 'cgroup'
  /** Joins the namespace pinned there; without it a new one is made. */
  readonly path?: string
}

export interface OciIdMapping {
  readonly containerID: number
  readonly hostID: number
  readonly size: number
}

export interface OciDevice {
  readonly path: string
  readonly type: 'c' | 'b'
  readonly major: number
  readonly minor: number
  readonly fileMode?: number
  readonly uid?: number
  readonly gid?: number
}

export interface OciDeviceRule {
  readonly allow: boolean
  /** "a" is either. */
  readonly type?: 'a' | 'b' | 'c'
  readonly major?: number
  readonly minor?: number
  readonly access: string
}

export interface OciResources {
  readonly devices?: readonly OciDeviceRule[]
  readonly cpu?: {
    readonly shares?: number
    readonly quota?: number
    readonly period?: number
    readonly cpus?: string
    readonly mems?: string
    readonly realtimeRuntime?: number
    readonly realtimePeriod?: number
  }
  readonly memory?: {
    readonly limit?: number
    readonly swap?: number
    readonly reservation?: number
    readonly kernel?: number
    readonly kernelTCP?: number
    readonly swappiness?: number
    readonly disableOOMKiller?: boolean
    readonly useHierarchy?: boolean
  }
  readonly pids?: { readonly limit: number }
  readonly hugepageLimits?: readonly { readonly pageSize: string; readonly limit: number }[]
  readonly unified?: Readonly<Record<string, string>>
  readonly blockIO?: OciBlockIo
}

export interface OciBlockIo {
  readonly weight?: number
  readonly weightDevice?: readonly OciBlockDevice[]
  readonly throttleReadBpsDevice?: readonly OciBlockDevice[]
  readonly throttleWriteBpsDevice?: readonly OciBlockDevice[]
  readonly throttleReadIOPSDevice?: readonly OciBlockDevice[]
  readonly throttleWriteIOPSDevice?: readonly OciBlockDevice[]
}

/** Exactly one of the two values. */
export interface OciBlockDevice {
  readonly major: number
  readonly minor: number
  readonly weight?: number
  /** Per second. */
  readonly rate?: number
}

export interface OciSeccomp {
  readonly defaultAction: string
  readonly defaultErrnoRet?: number
  readonly architectures: readonly string[]
  readonly flags?: readonly string[]
  /** A unix socket on which the runtime hands over the listener of SCMP_ACT_NOTIFY. */
  readonly listenerPath?: string
  readonly listenerMetadata?: string
  readonly syscalls: readonly OciSyscallRule[]
}

export interface OciSyscallRule {
  readonly names: readonly string[]
  readonly action: string
  readonly errnoRet?: number
  readonly args?: readonly OciSyscallArgument[]
}

export interface OciSyscallArgument {
  readonly index: number
  readonly value: number | bigint
  readonly valueTwo?: number | bigint
  readonly op: string
}

declare global {
  interface JSON {
    /** ES2026; TypeScript does not know it yet. */
    rawJSON(text: string): unknown
  }
}

/** 2^64 - 1, which is no number of JavaScript. */
const UNLIMITED = JSON.rawJSON('18446744073709551615')

/** The text of config.json. */
export const specText = (spec: OciSpec): string =>
  JSON.stringify(spec, (_key, value: unknown) => {
    if (typeof value === 'bigint') return JSON.rawJSON(String(value))
    return value === Number.POSITIVE_INFINITY ? UNLIMITED : value
  })
