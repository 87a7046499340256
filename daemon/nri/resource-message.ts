/** Limits in three languages: what plugins say, what the kubelet says (zero is "not set"), and what the OCI runtime is told. */
import { LinuxContainerResources } from '#proto/generated/api.ts'
import { type LinuxMemory, LinuxResources } from '#proto/generated/nri.ts'
import { boundedNumber, invalid, quoted } from '../oci/spec/refuse.ts'
import type { OciDeviceRule, OciResources } from '../oci/spec/types.ts'

const int = (value: number | undefined): { value: bigint } | undefined =>
  value === undefined ? undefined : { value: BigInt(value) }

const set = (value: bigint): { value: bigint } | undefined => (value === 0n ? undefined : { value })

/** What the OCI runtime is told, for plugins. */
export const fromOci = ({ cpu, memory, hugepageLimits, unified, devices, pids }: OciResources): LinuxResources =>
  LinuxResources.create({
    memory: {
      limit: int(memory?.limit),
      reservation: int(memory?.reservation),
      swap: int(memory?.swap),
      kernel: int(memory?.kernel),
      kernelTcp: int(memory?.kernelTCP),
      swappiness: int(memory?.swappiness),
      disableOomKiller: memory?.disableOOMKiller === undefined ? undefined : { value: memory.disableOOMKiller },
      useHierarchy: memory?.useHierarchy === undefined ? undefined : { value: memory.useHierarchy },
    },
    cpu: {
      shares: int(cpu?.shares),
      quota: int(cpu?.quota),
      period: int(cpu?.period),
      realtimeRuntime: int(cpu?.realtimeRuntime),
      realtimePeriod: int(cpu?.realtimePeriod),
      cpus: cpu?.cpus ?? '',
      mems: cpu?.mems ?? '',
    },
    hugepageLimits: (hugepageLimits ?? []).map(({ pageSize, limit }) => ({ pageSize, limit: BigInt(limit) })),
    unified: { ...unified },
    devices: (devices ?? []).map(({ allow, type = 'a', major, minor, access }) => ({
      allow,
      type,
      major: int(major),
      minor: int(minor),
      access,
    })),
    pids: pids && { limit: BigInt(pids.limit) },
  })

/** What the kubelet asks for, for plugins. */
export const fromCri = (resources: LinuxContainerResources | undefined): LinuxResources =>
  LinuxResources.create(
    resources && {
      memory: { limit: set(resources.memoryLimitInBytes), swap: set(resources.memorySwapLimitInBytes) },
      cpu: {
        shares: set(resources.cpuShares),
        quota: set(resources.cpuQuota),
        period: set(resources.cpuPeriod),
        cpus: resources.cpusetCpus,
        mems: resources.cpusetMems,
      },
      hugepageLimits: resources.hugepageLimits,
      unified: resources.unified,
    },
  )

/** What plugins say, as far as the kubelet has words for it: it goes the way of the kubelet's own, checks and record included. */
export const toCri = ({ cpu, memory, hugepageLimits, unified }: LinuxResources): LinuxContainerResources =>
  LinuxContainerResources.fromPartial({
    cpuPeriod: cpu?.period?.value ?? 0n,
    cpuQuota: cpu?.quota?.value ?? 0n,
    cpuShares: cpu?.shares?.value ?? 0n,
    cpusetCpus: cpu?.cpus ?? '',
    cpusetMems: cpu?.mems ?? '',
    memoryLimitInBytes: memory?.limit?.value ?? 0n,
    memorySwapLimitInBytes: memory?.swap?.value ?? 0n,
    hugepageLimits,
    unified,
  })

/** And what the kubelet has no words for. @throws RuntimeError invalid-argument */
export const beyondCri = ({ cpu, memory, pids, devices }: LinuxResources): OciResources => {
  const runtime = bounded('cpu.realtime_runtime', cpu?.realtimeRuntime, -1)
  const period = bounded('cpu.realtime_period', cpu?.realtimePeriod, 0)
  const times = {
    ...(runtime !== undefined && { realtimeRuntime: runtime }),
    ...(period !== undefined && { realtimePeriod: period }),
  }
  const bytes = memory ? memoryBeyondCri(memory) : {}
  return {
    ...(Object.keys(times).length > 0 && { cpu: times }),
    ...(Object.keys(bytes).length > 0 && { memory: bytes }),
    // Below zero nothing is said, as in the reference.
    ...(pids && pids.limit >= 0n && { pids: { limit: boundedNumber('NRI pids.limit', pids.limit, 0) } }),
    ...(devices.length > 0 && { devices: devices.map(deviceRule) }),
  }
}

const memoryBeyondCri = (memory: LinuxMemory): NonNullable<OciResources['memory']> => {
  const reservation = bounded('memory.reservation', memory.reservation, -1)
  const kernel = bounded('memory.kernel', memory.kernel, -1)
  const kernelTCP = bounded('memory.kernel_tcp', memory.kernelTcp, -1)
  const swappiness = bounded('memory.swappiness', memory.swappiness, 0, 200)
  return {
    ...(reservation !== undefined && { reservation }),
    ...(kernel !== undefined && { kernel }),
    ...(kernelTCP !== undefined && { kernelTCP }),
    ...(swappiness !== undefined && { swappiness }),
    ...(memory.disableOomKiller && { disableOOMKiller: memory.disableOomKiller.value }),
    ...(memory.useHierarchy && { useHierarchy: memory.useHierarchy.value }),
  }
}

const bounded = (field: string, value: { value: bigint } | undefined, min: number, max?: number) =>
  value && boundedNumber(`NRI ${field}`, value.value, min, max)

const deviceRule = ({ allow, type, major, minor, access }: LinuxResources['devices'][number]): OciDeviceRule => {
  if (!/^[rwm]{1,3}$/.test(access))
    throw invalid(`NRI device rule: access ${quoted(access)} is not made of "r", "w" and "m"`)
  return {
    allow,
    ...(type !== '' && { type: ruleType(type) }),
    ...(major && { major: Number(major.value) }),
    ...(minor && { minor: Number(minor.value) }),
    access,
  }
}

const ruleType = (type: string): 'a' | 'b' | 'c' => {
  if (type === 'a' || type === 'b' || type === 'c') return type
  throw invalid(`NRI device rule: type ${quoted(type)} is not "a", "b" or "c"`)
}
