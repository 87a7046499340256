/** Gathers what the spec parts need to know of this host. Done once, at start. */
import { existsSync, readdirSync } from 'node:fs'
import { cpus } from 'node:os'
import type { HostFacts } from '#linux/host-facts.ts'
import { readKernelFile } from '#linux/read-bounded.ts'
import type { SpecHost } from './spec/host.ts'
import { hardLimits } from './spec/rlimits.ts'

const CPUS = '/sys/devices/system/cpu'

interface Decided {
  /** Our own profile, once it is loaded. */
  readonly apparmorDefaultProfile?: string | undefined
  readonly selinuxRequired?: boolean
}

export const specHost = (
  facts: HostFacts,
  { apparmorDefaultProfile, selinuxRequired = false }: Decided = {},
): SpecHost => {
  const { controllers, version } = facts.cgroup
  const cgroupVersion = version === 2 ? 2 : 1
  return {
    arch: facts.arch,
    cgroupVersion,
    cpus: cpus().length || 1,
    resctrl: existsSync('/sys/fs/resctrl/schemata'),
    apparmorEnabled: facts.apparmor,
    ...(apparmorDefaultProfile !== undefined && { apparmorDefaultProfile }),
    selinuxEnabled: facts.selinux,
    selinuxRequired,
    seccompEnabled: facts.seccomp,
    canRaiseOom: facts.capSysResource,
    ...(!facts.capSysResource && { hardLimits: hardLimits(readKernelFile('/proc/self/limits') ?? '') }),
    oomScoreAdj: Number(readKernelFile('/proc/self/oom_score_adj') ?? '0'),
    // On a hybrid host the runtime sees version 1 only.
    hugetlb: controllers.has('hugetlb') && (cgroupVersion === 2 || controllers.get('hugetlb') !== facts.cgroup.unified),
    swapAccounting: hasSwapAccounting(controllers.get('memory'), cgroupVersion),
    recursiveReadOnlyMounts: facts.recursiveReadonlyMounts,
    capabilities: facts.boundingCapabilities,
    thermalThrottlePaths: thermalThrottlePaths(),
  }
}

/** The root cgroup of version 2 has no memory files: there the kernel's switch is only seen in its children. */
const hasSwapAccounting = (memory: string | undefined, cgroupVersion: 1 | 2): boolean => {
  if (memory === undefined) return false
  if (cgroupVersion === 1) return existsSync(`${memory}/memory.memsw.limit_in_bytes`)
  const children = readdirSync(memory, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  return children.length === 0 || children.some(({ name }) => existsSync(`${memory}/${name}/memory.swap.max`))
}

const thermalThrottlePaths = (): string[] => {
  if (!existsSync(CPUS)) return []
  return readdirSync(CPUS)
    .filter((name) => /^cpu\d+$/.test(name))
    .map((name) => `${CPUS}/${name}/thermal_throttle`)
    .filter((path) => existsSync(path))
}
