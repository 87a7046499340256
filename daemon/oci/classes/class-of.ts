/**
 * Which class of cache and memory bandwidth (RDT), or of block I/O, the annotations name for a container. The names are those
 * that containerd and CRI-O read as well. The classes are a closed set that the configuration has.
 */
import type { Annotations } from '../annotations/allow.ts'

export type ClassKind = 'rdt' | 'blockio'

export interface NamedClass {
  readonly name: string
  /** Which annotation says so. */
  readonly annotation: string
}

const NAMES = {
  rdt: { container: 'io.kubernetes.cri.rdt-class', pod: 'rdt.resources.beta.kubernetes.io' },
  blockio: { container: 'io.kubernetes.cri.blockio-class', pod: 'blockio.resources.beta.kubernetes.io' },
} as const

const read = (annotations: Annotations, annotation: string): NamedClass | undefined => {
  const name = Object.hasOwn(annotations, annotation) ? annotations[annotation] : undefined
  return name === undefined ? undefined : { name, annotation }
}

/** The container's own annotation, then the pod's for this container, then the pod's for all. */
export const classOf = (
  kind: ClassKind,
  { pod, container, containerName }: { pod: Annotations; container: Annotations; containerName: string },
): NamedClass | undefined =>
  read(container, NAMES[kind].container) ??
  read(pod, `${NAMES[kind].pod}/container.${containerName}`) ??
  read(pod, `${NAMES[kind].pod}/pod`)
