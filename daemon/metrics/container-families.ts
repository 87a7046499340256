/** Metrics of containers alone: disks, files, processes, limits. */
import type { DeviceTraffic, HugePageUse } from '#linux/cgroup-devices.ts'
import type { DescriptorCount } from '#linux/descriptor-census.ts'
import type { FilesystemStat } from '#linux/statfs.ts'
import type { LinuxContainerResources } from '#proto/generated/api.ts'
import type { Usage } from '#storage/tree/measure-tree.ts'
import type { CgroupReading } from './cgroup-families.ts'
import { type Family, one, type Sample } from './family.ts'

/** The file system of the writable layers. */
export interface LayerFilesystem {
  readonly device: string
  readonly stat: FilesystemStat
}

export interface ContainerReading extends CgroupReading {
  /** Milliseconds since 1970. */
  readonly atMs: number
  readonly startedMs: number
  readonly resources: LinuxContainerResources | undefined
  readonly writableLayer: Usage | undefined
  readonly filesystem: LayerFilesystem
  readonly traffic: readonly (DeviceTraffic & { readonly device: string })[]
  readonly hugePages: readonly HugePageUse[]
  readonly processes: number
  readonly threads: number | undefined
  /** Undefined: any number. */
  readonly threadsLimit: number | undefined
  readonly open: DescriptorCount
  /** Of files that the first process may open; undefined when it is gone. */
  readonly openFilesLimit: number | undefined
}

type ContainerFamily = Family<ContainerReading>

const gauge = (
  name: string,
  help: string,
  value: (reading: ContainerReading) => number | undefined,
): ContainerFamily => ({
  name,
  help,
  type: 'gauge',
  samples: (reading) => one(value(reading)),
})

const filesystemGauge = (
  name: string,
  help: string,
  value: (reading: ContainerReading) => number | undefined,
): ContainerFamily => ({
  name,
  help,
  type: 'gauge',
  labels: ['device'],
  samples: (reading) => one(value(reading)).map((sample) => ({ ...sample, labels: [reading.filesystem.device] })),
})

const filesystem: readonly ContainerFamily[] = [
  filesystemGauge(
    'container_fs_inodes_free',
    'Inodes free on the file system of the writable layer',
    (reading) => reading.filesystem.stat.filesFree,
  ),
  filesystemGauge(
    'container_fs_inodes_total',
    'Inodes of the file system of the writable layer',
    (reading) => reading.filesystem.stat.files,
  ),
  filesystemGauge(
    'container_fs_limit_bytes',
    'Size of the file system of the writable layer, in bytes',
    ({ filesystem: { stat } }) => stat.blocks * stat.blockSize,
  ),
  filesystemGauge(
    'container_fs_usage_bytes',
    'What the container has written, in bytes',
    ({ writableLayer }) => writableLayer?.bytes ?? 0,
  ),
]

const trafficCounter = (name: string, help: string, value: (device: DeviceTraffic) => number): ContainerFamily => ({
  name,
  help,
  type: 'counter',
  labels: ['device'],
  samples: ({ traffic }) => traffic.map((each) => ({ value: value(each), labels: [each.device] })),
})

const disks: readonly ContainerFamily[] = [
  trafficCounter('container_fs_reads_bytes_total', 'Bytes read from a disk', ({ readBytes }) => readBytes),
  trafficCounter('container_fs_reads_total', 'Reads from a disk', ({ reads }) => reads),
  trafficCounter('container_fs_writes_bytes_total', 'Bytes written to a disk', ({ writeBytes }) => writeBytes),
  trafficCounter('container_fs_writes_total', 'Writes to a disk', ({ writes }) => writes),
  {
    name: 'container_blkio_device_usage_total',
    help: 'Bytes read from and written to a disk',
    type: 'counter',
    labels: ['device', 'major', 'minor', 'operation'],
    samples: ({ traffic }) =>
      traffic.flatMap(({ device, major, minor, readBytes, writeBytes }): Sample[] => [
        { value: readBytes, labels: [device, String(major), String(minor), 'Read'] },
        { value: writeBytes, labels: [device, String(major), String(minor), 'Write'] },
      ]),
  },
]

const hugePageFamily = (
  name: string,
  help: string,
  type: ContainerFamily['type'],
  value: (pages: HugePageUse) => number | undefined,
): ContainerFamily => ({
  name,
  help,
  type,
  labels: ['pagesize'],
  samples: ({ hugePages }) =>
    hugePages.flatMap((pages) => one(value(pages)).map((sample) => ({ ...sample, labels: [pages.size] }))),
})

/** Only on hosts that count them. */
export const hugePageFailures = hugePageFamily(
  'container_hugetlb_failcnt',
  'How often the limit on huge pages was met',
  'counter',
  ({ failures }) => failures,
)

const hugePages: readonly ContainerFamily[] = [
  hugePageFamily('container_hugetlb_usage_bytes', 'Huge pages in use, in bytes', 'gauge', ({ usage }) => usage),
  hugePageFamily(
    'container_hugetlb_max_usage_bytes',
    'The most huge pages that were in use at any time, in bytes',
    'gauge',
    ({ maxUsage }) => maxUsage,
  ),
]

const processes: readonly ContainerFamily[] = [
  gauge('container_processes', 'Processes', (reading) => reading.processes),
  gauge('container_threads', 'Threads', ({ threads }) => threads),
  gauge(
    'container_threads_max',
    'Threads that there may be, 0 for any number',
    ({ threadsLimit }) => threadsLimit ?? 0,
  ),
  gauge('container_file_descriptors', 'Files that are open', ({ open }) => open.descriptors),
  gauge('container_sockets', 'Sockets that are open', ({ open }) => open.sockets),
  {
    name: 'container_ulimits_soft',
    help: 'Soft limits of the first process',
    type: 'gauge',
    labels: ['ulimit'],
    samples: ({ openFilesLimit }) => one(openFilesLimit).map((sample) => ({ ...sample, labels: ['max_open_files'] })),
  },
]

const DEFAULT_PERIOD_US = 100_000
const DEFAULT_SHARES = 1024
/** Limits that are no limits: what the kernel makes of "as much as there is". */
const UNLIMITED = 2n ** 62n

/** 0 for no limit, as cAdvisor has it. */
const limit = (bytes: bigint | undefined): number =>
  bytes === undefined || bytes <= 0n || bytes > UNLIMITED ? 0 : Number(bytes)

const settings: readonly ContainerFamily[] = [
  gauge('container_spec_cpu_period', 'Period of the limit on processor time, in microseconds', ({ resources }) =>
    Number(resources?.cpuPeriod || DEFAULT_PERIOD_US),
  ),
  gauge('container_spec_cpu_quota', 'Processor time in each period, in microseconds', ({ resources }) =>
    (resources?.cpuQuota ?? 0n) > 0n ? Number(resources?.cpuQuota) : undefined,
  ),
  gauge('container_spec_cpu_shares', 'Share of processor time beside others', ({ resources }) =>
    Number(resources?.cpuShares || DEFAULT_SHARES),
  ),
  gauge('container_spec_memory_limit_bytes', 'Limit on memory, 0 for none', ({ resources }) =>
    limit(resources?.memoryLimitInBytes),
  ),
  gauge('container_spec_memory_swap_limit_bytes', 'Limit on memory and swap together, 0 for none', ({ resources }) =>
    limit(resources?.memorySwapLimitInBytes),
  ),
  gauge('container_spec_memory_reservation_limit_bytes', 'Memory that is kept for it, 0 for none', ({ resources }) => {
    const text = resources?.unified['memory.min'] ?? ''
    return /^\d{1,15}$/.test(text) ? Number(text) : 0
  }),
  gauge(
    'container_start_time_seconds',
    'When it was started, in seconds since 1970',
    ({ startedMs }) => startedMs / 1000,
  ),
  gauge('container_last_seen', 'When this was read, in seconds since 1970', ({ atMs }) => atMs / 1000),
]

export const containerFamilies: readonly ContainerFamily[] = [
  ...filesystem,
  ...disks,
  ...hugePages,
  ...processes,
  ...settings,
]
