/** What the configuration gives every container, in the words of the spec builder. */
import { existsSync, realpathSync } from 'node:fs'
import { ContainerConfig } from '#proto/generated/api.ts'
import type { Config } from '../config/schema.ts'
import { configuredMount, parseConfiguredMount } from '../oci/spec/configured-mounts.ts'
import { parseConfiguredDevice } from '../oci/spec/devices.ts'
import { impossible } from '../oci/spec/refuse.ts'
import { parseRlimit } from '../oci/spec/rlimits.ts'
import type { OciMount, OciRlimit } from '../oci/spec/types.ts'

const isThere = <T>(value: T | undefined): value is T => value !== undefined

/** Requested devices are the last, and win. */
export const withConfiguredDevices = (config: ContainerConfig, { container }: Config): ContainerConfig => {
  if (container.devices.length === 0) return config
  const devices = container.devices.map(parseConfiguredDevice).filter(isThere)
  return ContainerConfig.fromPartial({ ...config, devices: [...devices, ...config.devices] })
}

export const configuredRlimits = ({ container }: Config): OciRlimit[] =>
  container.rlimits.map(parseRlimit).filter(isThere)

/** @throws RuntimeError failed-precondition for a time zone that this node does not know */
export const configuredMounts = ({ container }: Config): OciMount[] => {
  const mounts = container.mounts.map(parseConfiguredMount).filter(isThere)
  const there = mounts.filter(({ source }) => existsSync(source)).map(configuredMount)
  return container.timezone === undefined ? there : [...there, localtime(container.timezone)]
}

const localtime = (zone: string): OciMount => {
  const path = zone === 'local' ? '/etc/localtime' : `/usr/share/zoneinfo/${zone}`
  try {
    return configuredMount({ source: realpathSync(path), destination: '/etc/localtime', readonly: true })
  } catch (cause) {
    throw impossible(`Time zone "${zone}" (configuration key container.timezone) needs "${path}"`, cause)
  }
}
