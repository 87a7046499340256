/** The CDI devices that a container is to have: those of the CRI's field, then those of annotations. */
import type { ContainerConfig } from '#proto/generated/api.ts'
import { invalid, quoted } from '../spec/refuse.ts'
import { parseCdiName } from './spec-file.ts'

const PREFIX = 'cdi.k8s.io/'

/**
 * Only annotations of the container count, which the kubelet writes for device plugins: with one of the pod anybody could take
 * devices past the scheduler.
 * @throws RuntimeError invalid-argument naming field or annotation
 */
export const cdiDeviceNames = ({ CDIDevices, annotations }: ContainerConfig): string[] => {
  const names = new Set<string>()
  for (const { name } of CDIDevices) names.add(checked('CDI_devices', name))
  for (const key of Object.keys(annotations)
    .filter((each) => each.startsWith(PREFIX))
    .sort()) {
    for (const name of (annotations[key] ?? '').split(',')) names.add(checked(`Annotation ${quoted(key)}`, name.trim()))
  }
  return [...names]
}

const checked = (field: string, name: string): string => {
  if (!parseCdiName(name)) throw invalid(`${field} has ${quoted(name)}, which is not "vendor/class=device"`)
  return name
}
