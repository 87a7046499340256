/**
 * The OCI spec of a pod's init: the one process of a pod that shares its PID namespace between containers. It reaps what
 * they leave behind and does nothing else, so it gets nothing: no capabilities, no devices, no writable file.
 */
import type { PodSandboxConfig } from '#proto/generated/api.ts'
import { sandboxAnnotations } from './annotations.ts'
import { OCI_VERSION } from './container-spec.ts'
import type { SpecHost } from './host.ts'
import { MASKED_PATHS, READONLY_PATHS } from './masked-paths.ts'
import { oomScoreAdj } from './resources.ts'
import { defaultSeccomp, seccompArchitectures } from './seccomp-default.ts'
import type { OciIdMapping, OciMount, OciNamespace, OciSpec } from './types.ts'
import { userMappings } from './user-namespace.ts'

export interface SandboxSpecInput {
  readonly sandboxId: string
  readonly sandbox: PodSandboxConfig
  readonly host: SpecHost
  /** An empty directory. The runtime makes mount points in it. */
  readonly rootfs: string
  /** The static init program on the host, started as `/init -P`. */
  readonly initPath: string
  /** Paths of the pod's pinned namespaces; absent where it uses the node's. */
  readonly pins: { readonly net?: string; readonly ipc?: string; readonly uts?: string; readonly user?: string }
  readonly cgroupsPath: string
  /** SELinux labels; absent where there is no SELinux. */
  readonly labels?: { readonly process?: string; readonly mount?: string }
}

export interface BuiltSandbox {
  readonly spec: OciSpec
  readonly warnings: readonly string[]
}

/** Nobody's id: no container process of the pod shares it, so that none can signal its init. As Kubernetes' pause image. */
const NOBODY = 65535
/** Dies after the containers of its pod. */
const OOM_SCORE_ADJ = -998n
const MIN_CPU_SHARES = 2

/** @throws RuntimeError invalid-argument for the pod's user namespace */
export const sandboxSpec = (input: SandboxSpecInput): BuiltSandbox => {
  const { sandbox, host, labels } = input
  const oom = oomScoreAdj(OOM_SCORE_ADJ, host)
  const mappings = userMappings(sandbox.linux?.securityContext?.namespaceOptions?.usernsOptions)
  const architectures = host.seccompEnabled ? seccompArchitectures(host.arch) : undefined
  const none: readonly string[] = []
  const spec: OciSpec = {
    ociVersion: OCI_VERSION,
    root: { path: input.rootfs, readonly: true },
    process: {
      terminal: false,
      user: { uid: nobodyOf(mappings?.uids), gid: nobodyOf(mappings?.gids), additionalGids: [] },
      args: ['/init', '-P'],
      env: [],
      cwd: '/',
      capabilities: { bounding: none, effective: none, permitted: none, inheritable: none, ambient: none },
      noNewPrivileges: true,
      oomScoreAdj: oom.value,
      ...(labels?.process !== undefined && { selinuxLabel: labels.process }),
    },
    mounts: initMounts(input.initPath),
    annotations: sandboxAnnotations(input.sandboxId, sandbox),
    linux: {
      namespaces: initNamespaces(input, mappings !== undefined),
      ...(mappings && { uidMappings: mappings.uids, gidMappings: mappings.gids }),
      devices: [],
      cgroupsPath: input.cgroupsPath,
      resources: { devices: [{ allow: false, access: 'rwm' }], cpu: { shares: MIN_CPU_SHARES } },
      ...(architectures && { seccomp: defaultSeccomp(architectures, host.arch, none) }),
      maskedPaths: MASKED_PATHS,
      readonlyPaths: READONLY_PATHS,
      ...(labels?.mount !== undefined && { mountLabel: labels.mount }),
    },
  }
  return { spec, warnings: oom.warnings }
}

/** A pod's own user namespace may know fewer ids. */
const nobodyOf = (mappings: readonly OciIdMapping[] = []): number =>
  Math.min(NOBODY, (mappings[0]?.size ?? Infinity) - 1)

const initMounts = (initPath: string): OciMount[] => [
  { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
  {
    destination: '/dev',
    type: 'tmpfs',
    source: 'tmpfs',
    options: ['nosuid', 'noexec', 'strictatime', 'mode=755', 'size=64k'],
  },
  { destination: '/init', type: 'bind', source: initPath, options: ['bind', 'ro', 'nosuid', 'nodev', 'rprivate'] },
]

const initNamespaces = ({ pins }: SandboxSpecInput, hasUserNamespace: boolean): OciNamespace[] => {
  const joined: OciNamespace[] = []
  if (pins.net !== undefined) joined.push({ type: 'network', path: pins.net })
  if (pins.ipc !== undefined) joined.push({ type: 'ipc', path: pins.ipc })
  if (pins.uts !== undefined) joined.push({ type: 'uts', path: pins.uts })
  if (hasUserNamespace) joined.push({ type: 'user', ...(pins.user !== undefined && { path: pins.user }) })
  return [{ type: 'mount' }, { type: 'pid' }, ...joined]
}
