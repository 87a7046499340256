/** Limits laid over others, as the OCI runtime is told. */
import type { OciResources } from './types.ts'

/** `more` wins, field by field. */
export const overlayOci = (base: OciResources, more: OciResources): OciResources => {
  const cpu = { ...base.cpu, ...more.cpu }
  const memory = { ...base.memory, ...more.memory }
  const pages = new Map(
    [...(base.hugepageLimits ?? []), ...(more.hugepageLimits ?? [])].map((one) => [one.pageSize, one]),
  )
  const unified = { ...base.unified, ...more.unified }
  const devices = [...(base.devices ?? []), ...(more.devices ?? [])]
  return {
    ...base,
    ...more,
    ...(Object.keys(cpu).length > 0 && { cpu }),
    ...(Object.keys(memory).length > 0 && { memory }),
    ...(pages.size > 0 && { hugepageLimits: [...pages.values()] }),
    ...(Object.keys(unified).length > 0 && { unified }),
    ...(devices.length > 0 && { devices }),
  }
}
