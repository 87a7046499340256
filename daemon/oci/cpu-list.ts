/** Sets of processors in the two forms in which the kernel writes them: "0-3,7" and hexadecimal masks. Pure. */

export type CpuSet = ReadonlySet<number>

/** More than any kernel is built for. */
const MAX_CPU = 8191
const MAX_CHARACTERS = 4096

/** undefined when the text is no such list. The empty list is an empty set. */
export const parseCpuList = (text: string): CpuSet | undefined => {
  const list = text.trim()
  if (list.length > MAX_CHARACTERS) return undefined
  const cpus = new Set<number>()
  for (const part of list === '' ? [] : list.split(',')) {
    const [, from, to = from] = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part) ?? []
    const [first, last] = [Number(from), Number(to)]
    if (from === undefined || first > last || last > MAX_CPU) return undefined
    for (let cpu = first; cpu <= last; cpu++) cpus.add(cpu)
  }
  return cpus
}

export const formatCpuList = (cpus: CpuSet): string => {
  const parts: { first: number; last: number }[] = []
  for (const cpu of [...cpus].sort((a, b) => a - b)) {
    const open = parts.at(-1)
    if (open?.last === cpu - 1) open.last = cpu
    else parts.push({ first: cpu, last: cpu })
  }
  return parts.map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`)).join(',')
}

/** "ff" or "00000001,ffffffff", the highest first. undefined when the text is no mask. */
export const parseMask = (text: string): CpuSet | undefined => {
  const digits = text.trim().replaceAll(',', '')
  if (!/^[0-9a-fA-F]{1,2048}$/.test(digits)) return undefined
  let mask = BigInt(`0x${digits}`)
  const cpus = new Set<number>()
  for (let cpu = 0; mask > 0n; cpu++, mask >>= 1n) if (mask & 1n) cpus.add(cpu)
  return cpus
}

/** In groups of 32 bits, no longer than `like`: the kernel refuses more bits than it has. */
export const formatMask = (cpus: CpuSet, like: string): string => {
  let mask = 0n
  for (const cpu of cpus) mask |= 1n << BigInt(cpu)
  const digits = like.trim().replaceAll(',', '').length
  const text = mask.toString(16).padStart(digits, '0')
  if (!like.includes(',')) return text
  return text.padStart(Math.ceil(text.length / 8) * 8, '0').replaceAll(/(.{8})(?=.)/g, '$1,')
}

export const union = (...sets: readonly CpuSet[]): CpuSet => new Set(sets.flatMap((set) => [...set]))

export const difference = (all: CpuSet, without: CpuSet): CpuSet => new Set([...all].filter((cpu) => !without.has(cpu)))
