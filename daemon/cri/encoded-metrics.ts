/** Metrics as the CRI tells of them, encoded; and what they mean. */
import { type MetricDescriptor, MetricType } from '#proto/generated/api.ts'
import type { Container } from '../container/container.ts'
import { cgroupFamilies } from '../metrics/cgroup-families.ts'
import type { ContainerMetrics, SandboxMetrics } from '../metrics/collect.ts'
import { containerFamilies, hugePageFailures } from '../metrics/container-families.ts'
import { BASE_LABELS, type Family } from '../metrics/family.ts'
import { networkFamilies } from '../metrics/network-families.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'
import { Wire } from './wire.ts'

/** Numbers of the fields, as in api.proto. */
const ITEM = 1
const SANDBOX = { id: 1, metrics: 2, containers: 3 }
const CONTAINER = { id: 1, metrics: 2 }
/** No timestamp: it says that a value is not of now. */
const METRIC = { name: 1, type: 3, labelValues: 4, value: 5 }

const huge = [hugePageFailures]
const types = { counter: MetricType.COUNTER, gauge: MetricType.GAUGE }

type Labels = Record<(typeof BASE_LABELS)[number], string>

export const metricDescriptor = ({ name, help, labels = [] }: Omit<Family<never>, 'samples'>): MetricDescriptor => ({
  name,
  help,
  labelKeys: [...BASE_LABELS, ...labels],
})

/** Of labels' values, such as names of devices and interfaces. */
const MOST_REMEMBERED = 1024

export class MetricsEncoder {
  readonly #wire = new Wire()
  /** For what is encoded once, perhaps in the middle of an answer. */
  readonly #apart = new Wire()
  /** Values of the labels that all metrics of an object have, encoded. */
  readonly #labels = new WeakMap<object, Uint8Array>()
  /** Name and type of each family, encoded. */
  readonly #heads = new WeakMap<object, Uint8Array>()
  readonly #ownLabels = new Map<string, Uint8Array>()

  /** A response, or a part of one, that holds the metrics of this sandbox. */
  sandbox({ sandbox, whole, interfaces, containers }: SandboxMetrics): Buffer {
    const wire = this.#wire
    const labels = this.#labelsOf(sandbox, () => sandboxLabels(sandbox, whole?.cgroup ?? ''))
    const item = wire.begin(ITEM)
    wire.text(SANDBOX.id, sandbox.record.id)
    if (whole) this.#metrics(SANDBOX.metrics, cgroupFamilies, whole.reading, labels)
    this.#metrics(SANDBOX.metrics, networkFamilies, interfaces, labels)
    for (const container of containers) this.#container(sandbox, container)
    wire.end(item)
    return wire.take()
  }

  #container(sandbox: Sandbox, { container, cgroup, reading }: ContainerMetrics): void {
    const labels = this.#labelsOf(container, () => containerLabels(sandbox, container, cgroup))
    const item = this.#wire.begin(SANDBOX.containers)
    this.#wire.text(CONTAINER.id, container.record.id)
    this.#metrics(CONTAINER.metrics, cgroupFamilies, reading, labels)
    this.#metrics(CONTAINER.metrics, containerFamilies, reading, labels)
    this.#metrics(CONTAINER.metrics, huge, reading, labels)
    this.#wire.end(item)
  }

  #metrics<R>(field: number, families: readonly Family<R>[], reading: R, labels: Uint8Array): void {
    const wire = this.#wire
    for (const family of families) {
      const samples = family.samples(reading)
      if (samples.length === 0) continue
      const head = this.#headOf(family)
      for (const { value, labels: own } of samples) {
        const metric = wire.begin(field)
        wire.raw(head)
        wire.raw(labels)
        if (own) for (const label of own) wire.raw(this.#ownLabel(label))
        wire.wrapped(METRIC.value, value > 0 ? Math.floor(value) : 0)
        wire.end(metric)
      }
    }
  }

  #headOf<R>(family: Family<R>): Uint8Array {
    const known = this.#heads.get(family)
    if (known) return known
    const wire = this.#apart
    wire.text(METRIC.name, family.name)
    wire.uint(METRIC.type, types[family.type])
    const bytes = wire.take()
    this.#heads.set(family, bytes)
    return bytes
  }

  #ownLabel(value: string): Uint8Array {
    const known = this.#ownLabels.get(value)
    if (known) return known
    if (this.#ownLabels.size >= MOST_REMEMBERED) this.#ownLabels.clear()
    const wire = this.#apart
    wire.bytes(METRIC.labelValues, Buffer.from(value))
    const bytes = wire.take()
    this.#ownLabels.set(value, bytes)
    return bytes
  }

  #labelsOf(object: Container | Sandbox, make: () => Labels): Uint8Array {
    const known = this.#labels.get(object)
    if (known) return known
    const values = make()
    const wire = this.#apart
    for (const key of BASE_LABELS) wire.bytes(METRIC.labelValues, Buffer.from(values[key]))
    const bytes = wire.take()
    this.#labels.set(object, bytes)
    return bytes
  }
}

const sandboxLabels = ({ record }: Sandbox, cgroup: string): Labels => ({
  id: cgroup,
  name: record.id,
  image: '',
  pod: record.config.metadata?.name ?? '',
  namespace: record.config.metadata?.namespace ?? '',
  container: '',
})

const containerLabels = (sandbox: Sandbox, { record }: Container, cgroup: string): Labels => ({
  ...sandboxLabels(sandbox, cgroup),
  name: record.id,
  // As in the status: what the user wrote in the pod, where the kubelet passed it on.
  image: record.config.image?.userSpecifiedImage || record.config.image?.image || record.imageId,
  container: record.config.metadata?.name ?? '',
})
