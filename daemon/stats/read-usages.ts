/** Reads what many cgroups use, all at once; and once more, a moment later, those of which one look does not tell the rate. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Linux } from '#linux/linux.ts'
import { now, type Usage, type UsageMeter } from './usage.ts'

/** Long enough for a rate, short enough for a caller. */
const SECOND_LOOK_MS = 250

/** Usages in the order of the meters: of those that get a second look where they need one, and of others that go without. */
interface Usages {
  readonly usages: readonly Usage[]
  readonly others: readonly Usage[]
}

export async function readUsages(
  linux: Pick<Linux, 'readTogether'>,
  meters: readonly UsageMeter[],
  others: readonly UsageMeter[] = [],
): Promise<Usages> {
  const all = look(linux, others.length === 0 ? meters : [...meters, ...others])
  const usages = all.slice(0, meters.length)
  const unclear = usages.flatMap((usage, index) => (needsSecondLook(usage) ? [index] : []))
  if (unclear.length > 0) {
    await sleep(SECOND_LOOK_MS, undefined, { ref: false })
    const again = look(
      linux,
      unclear.flatMap((index) => meters[index] ?? []),
    )
    for (const [at, index] of unclear.entries()) {
      const clear = again[at]
      if (clear) usages[index] = clear
    }
  }
  return { usages, others: all.slice(meters.length) }
}

function look({ readTogether }: Pick<Linux, 'readTogether'>, meters: readonly UsageMeter[]): Usage[] {
  const uses = readTogether(meters.map(({ counters }) => counters))
  const moment = now()
  return meters.flatMap((meter, index) => {
    const use = uses[index]
    return use ? [meter.usage(use, moment)] : []
  })
}

const needsSecondLook = ({ cpu }: Usage): boolean => cpu !== undefined && cpu.nanoCores === undefined
