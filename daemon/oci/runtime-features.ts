/** What an OCI runtime says of itself: `<runtime> features` prints JSON (runc 1.1, crun 1.9; OCI runtime-spec features.md). */
import * as z from 'zod'
import type { SpecFeatures } from './spec/host.ts'

export interface RuntimeFeatures extends SpecFeatures {
  readonly seccomp: boolean
  readonly apparmor: boolean
  readonly selinux: boolean
  readonly cgroupV2: boolean
  readonly userNamespaces: boolean
  /**
   * Whether it makes mount points by their path: whoever can write to a volume leads it out of the container meanwhile, and
   * empty directories and files come to be on the node (CVE-2024-45310; runc before 1.1.14).
   */
  readonly followsVolumes: boolean
}

const enabled = z.object({ enabled: z.boolean().nullish() }).nullish()

const RUNC_VERSION = 'org.opencontainers.runc.version'

const document = z.object({
  annotations: z.record(z.string(), z.string()).nullish(),
  ociVersionMax: z.string().nullish(),
  mountOptions: z.array(z.string()).nullish(),
  linux: z
    .object({
      namespaces: z.array(z.string()).nullish(),
      cgroup: z.object({ v2: z.boolean().nullish() }).nullish(),
      seccomp: z.object({ enabled: z.boolean().nullish(), actions: z.array(z.string()).nullish() }).nullish(),
      apparmor: enabled,
      selinux: enabled,
      mountExtensions: z.object({ idmap: enabled }).nullish(),
    })
    .nullish(),
})

/** @throws when the text is not the document of the specification */
export const parseFeatures = (text: string): RuntimeFeatures => {
  const { mountOptions, linux, ociVersionMax, annotations } = document.parse(JSON.parse(text))
  return {
    recursiveReadOnlyMounts: mountOptions?.includes('rro') ?? false,
    idmappedMounts: linux?.mountExtensions?.idmap?.enabled ?? false,
    seccomp: linux?.seccomp?.enabled ?? false,
    apparmor: linux?.apparmor?.enabled ?? false,
    selinux: linux?.selinux?.enabled ?? false,
    cgroupV2: linux?.cgroup?.v2 ?? false,
    userNamespaces: linux?.namespaces?.includes('user') ?? false,
    seccompNotify: linux?.seccomp?.actions?.includes('SCMP_ACT_NOTIFY') ?? false,
    execCpuAffinity: isAtLeast(ociVersionMax ?? '', [1, 2, 1]),
    scheduling: isAtLeast(ociVersionMax ?? '', [1, 1, 0]),
    netDevices: isAtLeast(ociVersionMax ?? '', [1, 3, 0]),
    followsVolumes: !isRepaired(annotations?.[RUNC_VERSION]),
  }
}

/** @param runc the version; undefined for another runtime */
const isRepaired = (runc: string | undefined): boolean =>
  runc === undefined || (isAtLeast(runc, [1, 1, 14]) && !/^1\.2\.0-rc\.[12]\b/.test(runc))

/** What has no entry of its own is known by the version of the specification. */
const isAtLeast = (version: string, least: readonly number[]): boolean => {
  const parts = /^(\d+)\.(\d+)\.(\d+)/.exec(version)?.slice(1).map(Number)
  if (!parts) return false
  const index = parts.findIndex((part, at) => part !== least[at])
  return index < 0 || (parts[index] ?? 0) > (least[index] ?? 0)
}

/** For runtimes that have no such command: only what every runtime can do. Nothing beyond it is then promised to the kubelet. */
export const UNKNOWN_FEATURES: RuntimeFeatures = {
  recursiveReadOnlyMounts: false,
  idmappedMounts: false,
  seccomp: true,
  apparmor: true,
  selinux: true,
  cgroupV2: true,
  userNamespaces: true,
  followsVolumes: true,
}
