/**
 * Prints, as JSON, the milliseconds that each of many large specs takes: to build, and to write as text. By the clock, and of the
 * processor, which is what counts on a machine that does other things as well. Used by the benchmark.
 */
import { containerSpec } from '../container-spec.ts'
import { specText } from '../types.ts'
import { specInput } from './spec-case.ts'

const ROUNDS = 100
/** Of specs whose processor time is taken together: the kernel counts it in ticks. */
const BATCH = 20
const WARM_UP = 10
const MOUNTS = 100
const VARIABLES = 200

const mounts = Array.from({ length: MOUNTS }, (_, index) => ({
  containerPath: `/data/${index % 7}/volume-${index}`,
  hostPath: `/var/lib/kubelet/pods/pod-1/volumes/volume-${index}`,
  readonly: index % 3 === 0,
}))
const input = specInput({
  container: {
    mounts,
    envs: Array.from({ length: VARIABLES }, (_, index) => `SERVICE_${index}_PORT=tcp://10.96.${index}.1:8080`),
    linux: {
      resources: { cpuShares: 1024n, cpuQuota: 100_000n, cpuPeriod: 100_000n, memoryLimitInBytes: 1n << 30n },
      securityContext: { seccomp: { profileType: 0 }, runAsUser: { value: 1000n } },
    },
  },
  mountSources: mounts.map(({ hostPath }) => ({ path: hostPath, propagation: 'shared' as const })),
  input: { node: { minGomaxprocs: 2, detectSystemd: true } },
})

const samples: Record<string, number[]> = {}
const note = (name: string, ms: number): void => {
  const list = samples[name] ?? []
  samples[name] = list
  list.push(ms)
}

const processorMs = (): number => {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1000
}

for (let round = 0; round < ROUNDS + WARM_UP; round++) {
  const isCounted = round >= WARM_UP
  const before = processorMs()
  for (let index = 0; index < BATCH; index++) {
    const begin = performance.now()
    const { spec } = containerSpec(input)
    const built = performance.now()
    specText(spec)
    const written = performance.now()
    if (!isCounted) continue
    note('build', built - begin)
    note('build and write', written - begin)
  }
  if (isCounted) note('build and write, processor', (processorMs() - before) / BATCH)
}
console.log(JSON.stringify(samples))
