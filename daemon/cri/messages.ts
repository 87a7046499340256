/** Small pieces of domain → CRI messages that several RPCs share. */
import { RuntimeError } from '#proto/errors.ts'
import { CgroupDriver } from '#proto/generated/api.ts'

export const cgroupDriver = (driver: 'cgroupfs' | 'systemd'): CgroupDriver =>
  driver === 'systemd' ? CgroupDriver.SYSTEMD : CgroupDriver.CGROUPFS

/** @throws RuntimeError invalid-argument when the request left the field out */
export function required<T>(field: string, value: T | undefined): T {
  if (value === undefined) throw new RuntimeError('invalid-argument', `The request has no "${field}"`)
  return value
}

/** The verbose `info` of status RPCs: one JSON text under the key that crictl prints. */
export const verboseInfo = (info: unknown): { [key: string]: string } => ({ info: JSON.stringify(info, readable) })

/** The holder is asked, as a Buffer among the values has become the list of its bytes by now. */
function readable(this: Record<string, unknown>, key: string, value: unknown): unknown {
  const original = this[key]
  if (original instanceof Uint8Array) return Buffer.from(original).toString()
  return typeof value === 'bigint' ? Number(value) : value
}
