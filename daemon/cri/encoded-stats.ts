/** Statistics as the CRI tells of them, encoded. What the host does not count is left out, so that the kubelet does not take it for nothing. */
import type { MemoryUse, Pressure, Stall } from '#linux/cgroup-counters.ts'
import type { InterfaceCounters } from '#linux/net-counters.ts'
import { ContainerAttributes, FilesystemIdentifier, PodSandboxAttributes } from '#proto/generated/api.ts'
import type { Container } from '../container/container.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'
import type { ContainerReading } from '../stats/container-stats.ts'
import type { NetworkUsage } from '../stats/pod-network.ts'
import type { SandboxReading } from '../stats/sandbox-stats.ts'
import type { Usage } from '../stats/usage.ts'
import { Wire } from './wire.ts'

/** Numbers of the fields, as in api.proto; each message by its name. */
const CONTAINER_STATS = { attributes: 1, cpu: 2, memory: 3, writableLayer: 4, swap: 5, io: 6 }
const SANDBOX_STATS = { attributes: 1, linux: 2 }
const LINUX_SANDBOX_STATS = { cpu: 1, memory: 2, network: 3, process: 4, containers: 5, io: 6 }
const TIMESTAMP = 1
const CPU = { usageCoreNanoSeconds: 2, usageNanoCores: 3, psi: 4 }
const MEMORY = {
  workingSetBytes: 2,
  availableBytes: 3,
  usageBytes: 4,
  rssBytes: 5,
  pageFaults: 6,
  majorPageFaults: 7,
  psi: 8,
}
const SWAP = { availableBytes: 2, usageBytes: 3 }
const IO = { psi: 2 }
const PSI = { full: 1, some: 2 }
const PSI_DATA = { total: 1, avg10: 2, avg60: 3, avg300: 4 }
const FILESYSTEM = { fsId: 2, usedBytes: 3, inodesUsed: 4 }
const NETWORK = { defaultInterface: 2, interfaces: 3 }
const INTERFACE = { name: 1, rxBytes: 2, rxErrors: 3, txBytes: 4, txErrors: 5 }
const PROCESS = { processCount: 2 }

/** The one field of each answer: one reading, or as many as there are. */
const ITEM = 1

/** From which a part of a list is passed on. */
const PART_BYTES = 64 * 1024

/** Encodes statistics, and remembers what of an object never changes. */
export class StatsEncoder {
  readonly #wire = new Wire()
  readonly #fsId: Uint8Array
  readonly #attributes = new WeakMap<object, Uint8Array>()

  /** @param mountpoint what names the file system of the writable layers */
  constructor(mountpoint: string) {
    this.#fsId = FilesystemIdentifier.encode({ mountpoint }).finish()
  }

  /** The one answer that holds this reading. */
  container(reading: ContainerReading): Buffer {
    this.#container(ITEM, reading)
    return this.#wire.take()
  }

  /** The same of a sandbox. */
  sandbox(reading: SandboxReading): Buffer {
    this.#sandbox(reading)
    return this.#wire.take()
  }

  /** Parts of a response that hold these readings, some in each. */
  *containers(readings: readonly ContainerReading[]): Generator<Buffer> {
    for (const reading of readings) {
      this.#container(ITEM, reading)
      if (this.#wire.length >= PART_BYTES) yield this.#wire.take()
    }
    yield this.#wire.take()
  }

  *sandboxes(readings: readonly SandboxReading[]): Generator<Buffer> {
    for (const reading of readings) {
      this.#sandbox(reading)
      if (this.#wire.length >= PART_BYTES) yield this.#wire.take()
    }
    yield this.#wire.take()
  }

  #sandbox({ sandbox, usage, network, containers }: SandboxReading): void {
    const wire = this.#wire
    const item = wire.begin(ITEM)
    wire.bytes(SANDBOX_STATS.attributes, this.#attributesOf(sandbox, sandboxAttributes))
    const linux = wire.begin(SANDBOX_STATS.linux)
    if (usage) this.#usage(usage, LINUX_SANDBOX_STATS)
    if (network) this.#network(network)
    if (usage?.tasks !== undefined) this.#processes(usage.atMs, usage.tasks)
    for (const container of containers) this.#container(LINUX_SANDBOX_STATS.containers, container)
    wire.end(linux)
    wire.end(item)
  }

  #attributesOf<T extends object>(object: T, encode: (object: T) => Uint8Array): Uint8Array {
    const known = this.#attributes.get(object)
    if (known) return known
    const bytes = encode(object)
    this.#attributes.set(object, bytes)
    return bytes
  }

  #container(field: number, reading: ContainerReading): void {
    const { container, usage } = reading
    const wire = this.#wire
    const item = wire.begin(field)
    wire.bytes(CONTAINER_STATS.attributes, this.#attributesOf(container, containerAttributes))
    if (usage) this.#usage(usage, CONTAINER_STATS)
    if (usage?.memory?.swap) this.#swap(usage.atMs, usage.memory.swap)
    this.#layer(reading)
    wire.end(item)
  }

  #usage({ atMs, cpu, memory, pressure }: Usage, fields: { cpu: number; memory: number; io: number }): void {
    const wire = this.#wire
    if (cpu) {
      const message = wire.begin(fields.cpu)
      wire.time(TIMESTAMP, atMs)
      wire.wrapped(CPU.usageCoreNanoSeconds, cpu.totalNs)
      wire.wrapped(CPU.usageNanoCores, cpu.nanoCores)
      this.#psi(CPU.psi, pressure.cpu)
      wire.end(message)
    }
    if (memory) this.#memory(fields.memory, atMs, memory, pressure.memory)
    if (pressure.io) {
      const message = wire.begin(fields.io)
      wire.time(TIMESTAMP, atMs)
      this.#psi(IO.psi, pressure.io)
      wire.end(message)
    }
  }

  #memory(field: number, atMs: number, memory: MemoryUse, pressure: Pressure | undefined): void {
    const wire = this.#wire
    const message = wire.begin(field)
    wire.time(TIMESTAMP, atMs)
    wire.wrapped(MEMORY.workingSetBytes, memory.workingSet)
    wire.wrapped(MEMORY.availableBytes, left(memory.limit, memory.workingSet))
    wire.wrapped(MEMORY.usageBytes, memory.usage)
    wire.wrapped(MEMORY.rssBytes, memory.rss)
    wire.wrapped(MEMORY.pageFaults, memory.pageFaults)
    wire.wrapped(MEMORY.majorPageFaults, memory.majorPageFaults)
    this.#psi(MEMORY.psi, pressure)
    wire.end(message)
  }

  #swap(atMs: number, { limit, usage }: NonNullable<MemoryUse['swap']>): void {
    const wire = this.#wire
    const message = wire.begin(CONTAINER_STATS.swap)
    wire.time(TIMESTAMP, atMs)
    wire.wrapped(SWAP.availableBytes, left(limit, usage))
    wire.wrapped(SWAP.usageBytes, usage)
    wire.end(message)
  }

  #psi(field: number, pressure: Pressure | undefined): void {
    if (!pressure) return
    const { some, full } = pressure
    const message = this.#wire.begin(field)
    if (full) this.#stall(PSI.full, full)
    this.#stall(PSI.some, some)
    this.#wire.end(message)
  }

  /** The kernel sums up microseconds, the CRI nanoseconds (api.proto, PsiData). */
  #stall(field: number, { total, avg10, avg60, avg300 }: Stall): void {
    const wire = this.#wire
    const message = wire.begin(field)
    wire.uint(PSI_DATA.total, total * 1000)
    wire.double(PSI_DATA.avg10, avg10)
    wire.double(PSI_DATA.avg60, avg60)
    wire.double(PSI_DATA.avg300, avg300)
    wire.end(message)
  }

  /** Without numbers as long as nobody has measured it. */
  #layer({ writableLayer }: ContainerReading): void {
    const wire = this.#wire
    const message = wire.begin(CONTAINER_STATS.writableLayer)
    wire.time(TIMESTAMP, writableLayer?.atMs ?? Date.now())
    wire.bytes(FILESYSTEM.fsId, this.#fsId)
    wire.wrapped(FILESYSTEM.usedBytes, writableLayer?.bytes)
    wire.wrapped(FILESYSTEM.inodesUsed, writableLayer?.inodes)
    wire.end(message)
  }

  #network({ main, interfaces }: NetworkUsage): void {
    const wire = this.#wire
    const message = wire.begin(LINUX_SANDBOX_STATS.network)
    wire.time(TIMESTAMP, Date.now())
    if (main) this.#interface(NETWORK.defaultInterface, main)
    for (const each of interfaces) this.#interface(NETWORK.interfaces, each)
    wire.end(message)
  }

  #interface(field: number, { name, received, sent }: InterfaceCounters): void {
    const wire = this.#wire
    const message = wire.begin(field)
    wire.text(INTERFACE.name, name)
    wire.wrapped(INTERFACE.rxBytes, received.bytes)
    wire.wrapped(INTERFACE.rxErrors, received.errors)
    wire.wrapped(INTERFACE.txBytes, sent.bytes)
    wire.wrapped(INTERFACE.txErrors, sent.errors)
    wire.end(message)
  }

  #processes(atMs: number, tasks: number): void {
    const message = this.#wire.begin(LINUX_SANDBOX_STATS.process)
    this.#wire.time(TIMESTAMP, atMs)
    this.#wire.wrapped(PROCESS.processCount, tasks)
    this.#wire.end(message)
  }
}

function containerAttributes({ record }: Container): Uint8Array {
  const { metadata, labels, annotations } = record.config
  return ContainerAttributes.encode({ id: record.id, metadata, labels, annotations }).finish()
}

function sandboxAttributes({ record }: Sandbox): Uint8Array {
  const { metadata, labels, annotations } = record.config
  return PodSandboxAttributes.encode({ id: record.id, metadata, labels, annotations }).finish()
}

const left = (limit: number | undefined, used: number): number | undefined =>
  limit === undefined ? undefined : Math.max(0, limit - used)
