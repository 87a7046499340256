/** Inputs for tests of the spec: a plain pod on a plain host, of which each test states only what differs. */
import { ContainerConfig, type DeepPartial, PodSandboxConfig } from '#proto/generated/api.ts'
import { ALL_CAPABILITIES } from '../capabilities.ts'
import type { SpecHost } from '../host.ts'
import type { ContainerSpecInput } from '../spec-input.ts'

/** A node of today: cgroup v2, no LSM, nothing missing. */
export const plainHost: SpecHost = {
  arch: 'amd64',
  cgroupVersion: 2,
  cpus: 16,
  resctrl: false,
  apparmorEnabled: false,
  selinuxEnabled: false,
  seccompEnabled: true,
  canRaiseOom: true,
  oomScoreAdj: -999,
  hugetlb: true,
  swapAccounting: true,
  recursiveReadOnlyMounts: true,
  capabilities: ALL_CAPABILITIES,
  thermalThrottlePaths: [],
}

export const plainImage = { user: '', env: [], entrypoint: [], cmd: ['/bin/sh'], workingDir: '', stopSignal: '' }

/** Written as JSON can be: environment values are strings. */
export interface CaseRequest {
  readonly container?: Record<string, unknown>
  readonly sandbox?: Record<string, unknown>
  readonly image?: Partial<ContainerSpecInput['image']>
  readonly host?: Partial<SpecHost>
  readonly mountSources?: readonly { readonly path: string; readonly propagation: 'private' | 'shared' | 'slave' }[]
  /** The rest of the input, as it is. */
  readonly input?: Partial<ContainerSpecInput>
}

export const specInput = (request: CaseRequest): ContainerSpecInput => ({
  id: 'c'.repeat(64),
  sandboxId: 'd'.repeat(64),
  container: containerConfig(request.container),
  sandbox: sandboxConfig(request.sandbox),
  image: { ...plainImage, ...request.image },
  imageName: 'registry.example/web:1',
  host: { ...plainHost, ...request.host },
  features: { recursiveReadOnlyMounts: true, idmappedMounts: false },
  rootfs: { path: '/run/cricket/containers/c/rootfs' },
  namespaces: { net: '/run/ns/net', ipc: '/run/ns/ipc', uts: '/run/ns/uts', pid: 'new' },
  hostname: 'web-0',
  etcFiles: { hostname: '/run/etc/hostname', resolvConf: '/run/etc/resolv.conf', shm: '/run/shm' },
  cgroupsPath: '/kubepods/pod1/c',
  ...(request.mountSources && { mountSources: new Map(request.mountSources.entries()) }),
  ...request.input,
})

export const containerConfig = ({ envs, ...rest }: Record<string, unknown> = {}): ContainerConfig => {
  const list: unknown[] = Array.isArray(envs) ? envs : []
  return ContainerConfig.fromPartial({
    metadata: { name: 'web', attempt: 0 },
    image: { image: 'sha256:1234' },
    ...(rest as DeepPartial<ContainerConfig>),
    envs: list.map((entry) => {
      const [key, value] = String(entry).split(/=(.*)/s)
      return { key: key ?? '', value: Buffer.from(value ?? '') }
    }),
  })
}

/** A pod as the kubelet makes it: each container has a PID namespace of its own. */
export const sandboxConfig = (partial: Record<string, unknown> = {}): PodSandboxConfig =>
  PodSandboxConfig.fromPartial({
    metadata: { name: 'web-0', namespace: 'shop', uid: 'u-1', attempt: 0 },
    hostname: 'web-0',
    linux: { securityContext: { namespaceOptions: { pid: 1 } } },
    ...(partial as DeepPartial<PodSandboxConfig>),
  })
