import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type CgroupReading, cgroupFamilies } from './cgroup-families.ts'
import { familiesOf } from './collect.ts'
import { type ContainerReading, containerFamilies, hugePageFailures } from './container-families.ts'
import { BASE_LABELS } from './family.ts'
import { networkFamilies } from './network-families.ts'

/** What a kubelet with cAdvisor exports of a container under this name, and the labels that it adds to those that all have. */
const CADVISOR: Record<string, readonly string[]> = {
  container_blkio_device_usage_total: ['device', 'major', 'minor', 'operation'],
  container_cpu_cfs_burst_periods_total: [],
  container_cpu_cfs_burst_seconds_total: [],
  container_cpu_cfs_periods_total: [],
  container_cpu_cfs_throttled_periods_total: [],
  container_cpu_cfs_throttled_seconds_total: [],
  container_cpu_system_seconds_total: [],
  container_cpu_usage_seconds_total: ['cpu'],
  container_cpu_user_seconds_total: [],
  container_file_descriptors: [],
  container_fs_inodes_free: ['device'],
  container_fs_inodes_total: ['device'],
  container_fs_limit_bytes: ['device'],
  container_fs_reads_bytes_total: ['device'],
  container_fs_reads_total: ['device'],
  container_fs_usage_bytes: ['device'],
  container_fs_writes_bytes_total: ['device'],
  container_fs_writes_total: ['device'],
  container_hugetlb_failcnt: ['pagesize'],
  container_hugetlb_max_usage_bytes: ['pagesize'],
  container_hugetlb_usage_bytes: ['pagesize'],
  container_last_seen: [],
  container_memory_cache: [],
  container_memory_failcnt: [],
  container_memory_failures_total: ['failure_type', 'scope'],
  container_memory_kernel_usage: [],
  container_memory_mapped_file: [],
  container_memory_max_usage_bytes: [],
  container_memory_rss: [],
  container_memory_swap: [],
  container_memory_total_active_file_bytes: [],
  container_memory_total_inactive_file_bytes: [],
  container_memory_usage_bytes: [],
  container_memory_working_set_bytes: [],
  container_network_receive_bytes_total: ['interface'],
  container_network_receive_errors_total: ['interface'],
  container_network_receive_packets_dropped_total: ['interface'],
  container_network_receive_packets_total: ['interface'],
  container_network_transmit_bytes_total: ['interface'],
  container_network_transmit_errors_total: ['interface'],
  container_network_transmit_packets_dropped_total: ['interface'],
  container_network_transmit_packets_total: ['interface'],
  container_oom_events_total: [],
  container_pressure_cpu_stalled_seconds_total: [],
  container_pressure_cpu_waiting_seconds_total: [],
  container_pressure_io_stalled_seconds_total: [],
  container_pressure_io_waiting_seconds_total: [],
  container_pressure_memory_stalled_seconds_total: [],
  container_pressure_memory_waiting_seconds_total: [],
  container_processes: [],
  container_sockets: [],
  container_spec_cpu_period: [],
  container_spec_cpu_quota: [],
  container_spec_cpu_shares: [],
  container_spec_memory_limit_bytes: [],
  container_spec_memory_reservation_limit_bytes: [],
  container_spec_memory_swap_limit_bytes: [],
  container_start_time_seconds: [],
  container_threads: [],
  container_threads_max: [],
  container_ulimits_soft: ['ulimit'],
}

const stall = { avg10: 0, avg60: 0, avg300: 0, total: 2_500_000 }
const device = { device: '/dev/sda', major: 8, minor: 0, readBytes: 1, writeBytes: 2, reads: 3, writes: 4 }

const cgroup: CgroupReading = {
  cpuNs: 3_700_000_000,
  cpuTimes: { user: 2_000_000_000, system: 1_700_000_000 },
  throttling: {
    periods: 5,
    throttledPeriods: 2,
    throttledNs: 1_000_000_000,
    burstPeriods: undefined,
    burstNs: undefined,
  },
  memory: {
    usage: 100,
    workingSet: 80,
    rss: 50,
    cache: 40,
    mappedFile: 10,
    activeFile: 20,
    inactiveFile: 20,
    pageFaults: 7,
    majorPageFaults: 1,
    limit: 200,
    swap: undefined,
  },
  memoryDetails: { kernel: undefined, maxUsage: undefined, failures: undefined, oomKills: undefined },
  pressure: { cpu: { some: stall, full: undefined }, memory: { some: stall, full: stall }, io: undefined },
}

const container: ContainerReading = {
  ...cgroup,
  atMs: 1_700_000_000_500,
  startedMs: 1_600_000_000_000,
  resources: undefined,
  writableLayer: undefined,
  filesystem: {
    device: '/dev/sdb',
    stat: { type: 0, blockSize: 4096, blocks: 10, free: 5, available: 4, files: 100, filesFree: 90 },
  },
  traffic: [device],
  hugePages: [{ size: '2MB', usage: 6, maxUsage: undefined, failures: 0 }],
  processes: 2,
  threads: 9,
  threadsLimit: undefined,
  open: { descriptors: 12, sockets: 3 },
  openFilesLimit: 1024,
}

const valuesOf = (name: string, reading = container) =>
  [...cgroupFamilies, ...containerFamilies, hugePageFailures]
    .filter((family) => family.name === name)
    .flatMap((family) => family.samples(reading))

test('names and labels are those of cAdvisor, each once', () => {
  const families = familiesOf({ hugetlb: true })
  const own = families.map(({ name, labels = [] }) => [name, labels] as const)
  assert.deepEqual(
    own.toSorted(([a], [b]) => (a < b ? -1 : 1)),
    Object.entries(CADVISOR),
  )
  assert.ok(families.every(({ help }) => help !== ''))
  // A host that does not count huge pages does not promise to.
  assert.equal(familiesOf({ hugetlb: false }).length, families.length - 1)
  assert.deepEqual(BASE_LABELS.toSorted(), ['container', 'id', 'image', 'name', 'namespace', 'pod'])
})

test('every sample has as many labels as its family', () => {
  const interfaces = [{ name: 'eth0', received: traffic(1), sent: traffic(2) }]
  const all = [
    ...[...cgroupFamilies, ...containerFamilies, hugePageFailures].map((f) => ({ ...f, found: f.samples(container) })),
    ...networkFamilies.map((f) => ({ ...f, found: f.samples(interfaces) })),
  ]
  for (const { name, labels = [], found } of all)
    for (const sample of found) assert.equal(sample.labels?.length ?? 0, labels.length, name)
  assert.deepEqual(
    all.filter(({ found }) => found.length === 0).map(({ name }) => name),
    [
      // What this reading does not have.
      'container_pressure_io_waiting_seconds_total',
      'container_pressure_io_stalled_seconds_total',
      'container_hugetlb_max_usage_bytes',
      'container_spec_cpu_quota',
    ],
  )
})

test('values are in the units that the names promise', () => {
  assert.deepEqual(valuesOf('container_cpu_usage_seconds_total'), [{ value: 3.7, labels: ['total'] }])
  assert.deepEqual(valuesOf('container_cpu_cfs_throttled_seconds_total'), [{ value: 1 }])
  assert.deepEqual(valuesOf('container_pressure_memory_waiting_seconds_total'), [{ value: 2.5 }])
  assert.deepEqual(valuesOf('container_fs_limit_bytes'), [{ value: 40960, labels: ['/dev/sdb'] }])
  assert.deepEqual(valuesOf('container_start_time_seconds'), [{ value: 1_600_000_000 }])
  assert.deepEqual(valuesOf('container_threads_max'), [{ value: 0 }])
  assert.deepEqual(
    valuesOf('container_blkio_device_usage_total').map(({ labels }) => labels?.at(-1)),
    ['Read', 'Write'],
  )
})

test('without a limit on processor time nothing is said of throttling', () => {
  assert.deepEqual(valuesOf('container_cpu_cfs_periods_total', { ...container, throttling: undefined }), [])
})

test('of a cgroup that is gone there are no numbers that anybody could take for true', () => {
  const gone: CgroupReading = {
    cpuNs: undefined,
    cpuTimes: undefined,
    throttling: undefined,
    memory: undefined,
    memoryDetails: { kernel: undefined, maxUsage: undefined, failures: undefined, oomKills: undefined },
    pressure: { cpu: undefined, memory: undefined, io: undefined },
  }
  const said = cgroupFamilies.filter(({ samples }) => samples(gone).length > 0).map(({ name }) => name)
  assert.deepEqual(said, [])
})

function traffic(bytes: number) {
  return { bytes, packets: 1, errors: 0, dropped: 0 }
}
