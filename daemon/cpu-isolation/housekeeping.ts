/** The processor on which a container that asks for housekeeping still takes interrupts. */
import { join } from 'node:path'
import { readKernelFile } from '#linux/read-bounded.ts'
import { type CpuSet, parseCpuList } from '../oci/cpu-list.ts'

const CPUS = '/sys/devices/system/cpu'

/** The first processor and its hyper-threads, as far as the container has them. */
export function housekeepingCpus(cpus: CpuSet): CpuSet {
  const first = Math.min(...cpus)
  const siblings = readKernelFile(join(CPUS, `cpu${first}`, 'topology/thread_siblings_list')) ?? String(first)
  return new Set([...(parseCpuList(siblings) ?? [])].filter((cpu) => cpus.has(cpu)))
}
