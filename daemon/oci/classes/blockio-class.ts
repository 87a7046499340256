/** The class of block I/O of a container, with its devices as they are on this host just now. */
import { globSync, readFileSync, statSync } from 'node:fs'
import { messageOf } from '#proto/errors.ts'
import { deviceNumber } from '../resolve-devices.ts'
import { impossible, invalid, quoted } from '../spec/refuse.ts'
import type { OciBlockDevice, OciBlockIo } from '../spec/types.ts'
import { type BlockioClasses, type BlockioParameters, parseBlockioFile } from './blockio-file.ts'
import type { NamedClass } from './class-of.ts'

/** The numbers of the block devices that a pattern names. */
export type FindBlockDevices = (pattern: string) => readonly { readonly major: number; readonly minor: number }[]

/**
 * @param config the file; read anew each time, because it may have changed
 * @throws RuntimeError failed-precondition where there are no classes or the file is broken, invalid-argument for a class
 *   that is not in it
 */
export const blockioClass = (
  config: string | undefined,
  asked: NamedClass | undefined,
  warn: (why: string) => void,
): OciBlockIo | undefined => {
  if (!asked) return undefined
  const what = `Annotation ${quoted(asked.annotation)}: block I/O class ${quoted(asked.name)}`
  if (config === undefined)
    throw impossible(`${what} cannot be had: this node has no classes (container.blockioConfig)`)
  const classes = readClasses(config)
  const found = Object.hasOwn(classes, asked.name) ? classes[asked.name] : undefined
  if (!found) throw invalid(`${what} is not one of ${Object.keys(classes).map(quoted).join(', ') || 'none'}`)
  return blockIoOf(found, blockDevices, warn)
}

const readClasses = (path: string): BlockioClasses => {
  try {
    return parseBlockioFile(readFileSync(path, 'utf8'))
  } catch (cause) {
    throw impossible(`Cannot use "${path}" (configuration key container.blockioConfig): ${messageOf(cause)}`, cause)
  }
}

/** Of several entries for a device the last one counts. Devices that are not there need no limit. */
export const blockIoOf = (
  list: readonly BlockioParameters[],
  find: FindBlockDevices,
  warn: (why: string) => void,
): OciBlockIo => {
  const limits = new Map<keyof OciBlockIo, Map<string, OciBlockDevice>>()
  let weight: number | undefined
  for (const { Devices, Weight, ...throttles } of list) {
    if (Devices === undefined) weight = Weight ?? weight
    const devices = Devices?.flatMap((pattern) => {
      const found = find(pattern)
      if (found.length === 0) warn(`Block I/O class: ${quoted(pattern)} is no block device of this host`)
      return found
    })
    for (const device of devices ?? []) {
      if (Weight !== undefined) note(limits, 'weightDevice', { ...device, weight: Weight })
      for (const [key, rate] of Object.entries(throttles)) {
        if (rate !== undefined) note(limits, FIELDS[key], { ...device, rate })
      }
    }
  }
  return {
    ...(weight !== undefined && { weight }),
    ...Object.fromEntries([...limits].map(([field, byDevice]) => [field, [...byDevice.values()]])),
  }
}

const FIELDS: Readonly<Record<string, keyof OciBlockIo>> = {
  ThrottleReadBps: 'throttleReadBpsDevice',
  ThrottleWriteBps: 'throttleWriteBpsDevice',
  ThrottleReadIOPS: 'throttleReadIOPSDevice',
  ThrottleWriteIOPS: 'throttleWriteIOPSDevice',
}

const note = (
  limits: Map<keyof OciBlockIo, Map<string, OciBlockDevice>>,
  field: keyof OciBlockIo | undefined,
  device: OciBlockDevice,
): void => {
  if (field === undefined) return
  const byDevice = limits.get(field) ?? new Map<string, OciBlockDevice>()
  limits.set(field, byDevice.set(`${device.major}:${device.minor}`, device))
}

/** Links are followed; one that leads nowhere is no device. */
const blockDevices: FindBlockDevices = (pattern) =>
  globSync(pattern).flatMap((path) => {
    const entry = statSync(path, { throwIfNoEntry: false })
    return entry?.isBlockDevice() ? [deviceNumber(entry.rdev)] : []
  })
