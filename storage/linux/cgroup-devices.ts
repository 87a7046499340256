/** What a cgroup has done to each disk, and with huge pages of each size, read now and then. What a version or a host does not have is left out. */
import { readdirSync } from 'node:fs'
import { cgroupDirectory, cgroupLayout, readCgroupFile } from './cgroup.ts'
import { type CgroupLayout, isInUnified } from './cgroup-layout.ts'
import { fieldIn, numberIn } from './counter-text.ts'

/** What went to or came from one block device. */
export interface DeviceTraffic {
  readonly major: number
  readonly minor: number
  readonly readBytes: number
  readonly writeBytes: number
  readonly reads: number
  readonly writes: number
}

/** Bytes of huge pages of one size, such as "2MB". */
export interface HugePageUse {
  readonly size: string
  readonly usage: number
  /** Version 1 only. */
  readonly maxUsage: number | undefined
  readonly failures: number
}

const read = readCgroupFile

/** Devices that nothing was read from or written to are left out. */
export const deviceTraffic = (path: string, layout = cgroupLayout()): DeviceTraffic[] =>
  isInUnified('blkio', layout) ? trafficOfV2(read('io', path, 'io.stat', layout)) : trafficOfV1(path, layout)

const trafficOfV2 = (text: string | undefined): DeviceTraffic[] =>
  [...(text ?? '').matchAll(/^(\d+):(\d+) (.*)$/gm)].map(([, major, minor, fields = '']) => {
    const field = (name: string) => Number(new RegExp(`(?:^| )${name}=(\\d+)`).exec(fields)?.[1] ?? 0)
    return {
      major: Number(major),
      minor: Number(minor),
      readBytes: field('rbytes'),
      writeBytes: field('wbytes'),
      reads: field('rios'),
      writes: field('wios'),
    }
  })

const BLKIO_LINE = /^(\d+):(\d+) (Read|Write) (\d+)$/gm

/** Counted where requests enter the block layer, so whatever the device's scheduler. */
const trafficOfV1 = (path: string, layout: CgroupLayout): DeviceTraffic[] => {
  const devices = new Map<string, { -readonly [K in keyof DeviceTraffic]: DeviceTraffic[K] }>()
  const count = (file: string, keys: { Read: 'readBytes' | 'reads'; Write: 'writeBytes' | 'writes' }) => {
    const text =
      read('blkio', path, `blkio.throttle.${file}_recursive`, layout) ??
      read('blkio', path, `blkio.throttle.${file}`, layout)
    for (const [, major, minor, operation, value] of text?.matchAll(BLKIO_LINE) ?? []) {
      const device = devices.get(`${major}:${minor}`) ?? {
        major: Number(major),
        minor: Number(minor),
        readBytes: 0,
        writeBytes: 0,
        reads: 0,
        writes: 0,
      }
      devices.set(`${major}:${minor}`, device)
      device[operation === 'Read' ? keys.Read : keys.Write] = Number(value)
    }
  }
  count('io_service_bytes', { Read: 'readBytes', Write: 'writeBytes' })
  count('io_serviced', { Read: 'reads', Write: 'writes' })
  return [...devices.values()]
}

/** Of a kind of host: they do not change while it runs. */
const hugePageSizes = new WeakMap<CgroupLayout, readonly string[]>()

const sizesIn = (directory: string, layout: CgroupLayout): readonly string[] => {
  const known = hugePageSizes.get(layout)
  if (known) return known
  const sizes = namesIn(directory).flatMap((name) => HUGE_PAGE_FILE.exec(name)?.[1] ?? [])
  if (sizes.length > 0) hugePageSizes.set(layout, sizes)
  return sizes
}

const HUGE_PAGE_FILE = /^hugetlb\.([^.]+)\.(?:current|usage_in_bytes)$/

export const hugePageUse = (path: string, layout = cgroupLayout()): HugePageUse[] => {
  const v2 = isInUnified('hugetlb', layout)
  // Beside hierarchies of version 1 nobody passes controllers on in the tree of version 2.
  const isUsed = layout.controllers.has('hugetlb') && (layout.version === 2 || !v2)
  const directory = isUsed ? cgroupDirectory('hugetlb', path, layout) : undefined
  if (directory === undefined) return []
  const number = (size: string, name: string) => numberIn(read('hugetlb', path, `hugetlb.${size}.${name}`, layout))
  return sizesIn(directory, layout).flatMap((size) => {
    const usage = number(size, v2 ? 'current' : 'usage_in_bytes')
    if (usage === undefined) return []
    if (!v2)
      return [{ size, usage, failures: number(size, 'failcnt') ?? 0, maxUsage: number(size, 'max_usage_in_bytes') }]
    const events = read('hugetlb', path, `hugetlb.${size}.events`, layout)
    return [{ size, usage, failures: fieldIn(events, 'max') ?? 0, maxUsage: undefined }]
  })
}

const namesIn = (directory: string): string[] => {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}
