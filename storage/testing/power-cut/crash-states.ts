/**
 * The states that a disk may legally be in when the power fails after the n-th change of a log. What was synced is there.
 * Of the rest anything may be missing: each change of names on its own, as long as those of one name, and of one file's
 * place, stay in order; each write whole, in part, or as zeros of its length.
 */
import { type Born, type Change, Disk } from './disk-log.ts'

export interface CrashState {
  readonly disk: Disk
  /** What callers had been told by then. */
  readonly told: readonly string[]
  /** For messages: after which change, and what was lost. */
  readonly how: string
}

export interface Choice {
  /** How many states are made of one cut, beside those with all and with nothing. */
  readonly perCut: number
  readonly seed: number
}

type Damage = 'torn' | 'zeros'
/** By the number of a change that is not synced: persisted, or how much of it. Not in here: lost. */
type Fate = ReadonlyMap<number, 'whole' | Damage>

/** Small and good enough; runs must be repeatable. */
const randomFrom = (seed: number): (() => number) => {
  let state = seed | 0
  return () => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) | 0
    return ((state ^ (state >>> 13)) >>> 0) / 2 ** 32
  }
}

export function* crashStates(log: readonly Change[], born: Born, { perCut, seed }: Choice): Generator<CrashState> {
  const random = randomFrom(seed)
  for (let cut = 0; cut <= log.length; cut++) {
    const done = log.slice(0, cut)
    const loose = unsynced(done)
    const told = done.flatMap((change) => (change.is === 'told' ? [change.what] : []))
    for (const fate of fates(done, loose, random, perCut))
      yield { disk: build(done, born, loose, fate), told, how: describe(done, loose, fate) }
  }
}

/** The numbers of the changes that no sync has covered. */
const unsynced = (done: readonly Change[]): number[] => {
  const loose: number[] = []
  done.forEach((change, index) => {
    if (change.is === 'sync' || change.is === 'told') return
    const inos = change.is === 'entries' ? change.entries.map(({ dir }) => dir) : [change.ino]
    const isSynced = done.some(
      (other) => other.is === 'sync' && index < other.before && (other.ino === 'all' || inos.includes(other.ino)),
    )
    if (!isSynced) loose.push(index)
  })
  return loose
}

function* fates(
  done: readonly Change[],
  loose: readonly number[],
  random: () => number,
  perCut: number,
): Generator<Fate> {
  const all: Fate = new Map(loose.map((index) => [index, 'whole']))
  yield all
  if (loose.length === 0) return
  yield new Map()
  const writes = loose.filter((index) => done[index]?.is === 'write')
  const single: (() => Fate)[] = [
    ...loose.map((index) => () => inOrder(done, loose, new Map([...all].filter(([other]) => other !== index)))),
    ...loose.map((index) => () => withEarlier(done, loose, index)),
    ...writes.flatMap((index) =>
      (['torn', 'zeros'] as const).map((damage) => () => new Map([...all, [index, damage]])),
    ),
    ...Array.from(
      { length: loose.length + Math.floor(perCut / 20) },
      () => () => inOrder(done, loose, randomFate(done, loose, random)),
    ),
  ]
  for (let made = 0; made < perCut && single.length > 0; made++) {
    const [next] = single.splice(Math.floor(random() * single.length), 1)
    if (next) yield next()
  }
}

const randomFate = (done: readonly Change[], loose: readonly number[], random: () => number): Fate =>
  new Map(
    loose
      .filter(() => random() < 0.5)
      .map((index) => [
        index,
        done[index]?.is === 'write' && random() < 0.3 ? (random() < 0.5 ? 'torn' : 'zeros') : 'whole',
      ]),
  )

/** What a change of names is about: two of these that meet are persisted in order. */
const keysOf = (change: Change | undefined): string[] =>
  change?.is === 'entries'
    ? change.entries.flatMap(({ dir, name, to }) => [`${dir}/${name}`, ...(to === undefined ? [] : [`#${to}`])])
    : []

const meet = (a: Change | undefined, b: Change | undefined): boolean => {
  const keys = new Set(keysOf(a))
  return keysOf(b).some((key) => keys.has(key))
}

/** Takes from a fate what cannot be persisted because something before it was lost. */
const inOrder = (done: readonly Change[], loose: readonly number[], fate: Fate): Fate => {
  const kept = new Map<number, 'whole' | Damage>()
  for (const index of loose) {
    const how = fate.get(index)
    if (how === undefined) continue
    const lacks = loose.some((other) => other < index && !kept.has(other) && meet(done[other], done[index]))
    if (!lacks) kept.set(index, how)
  }
  return kept
}

/** One change alone, with those that have to come before it. */
const withEarlier = (done: readonly Change[], loose: readonly number[], index: number): Fate => {
  const kept = new Set([index])
  for (const other of [...loose].reverse())
    if (other < index && [...kept].some((each) => meet(done[other], done[each]))) kept.add(other)
  return new Map(loose.filter((other) => kept.has(other)).map((other) => [other, 'whole']))
}

const SECTOR = 512

const build = (done: readonly Change[], born: Born, loose: readonly number[], fate: Fate): Disk => {
  const disk = new Disk(born)
  const isLoose = new Set(loose)
  done.forEach((change, index) => {
    const how = isLoose.has(index) ? fate.get(index) : 'whole'
    if (how === undefined) return
    disk.apply(change.is === 'write' && how !== 'whole' ? { ...change, bytes: damaged(change.bytes, how) } : change)
  })
  return disk
}

/** Torn: the first sectors came, the rest is zeros or, of a short write, half of it is missing. */
const damaged = (bytes: Uint8Array, how: Damage): Uint8Array => {
  if (how === 'zeros') return Buffer.alloc(bytes.length)
  const half = bytes.length > SECTOR ? Math.floor(bytes.length / 2 / SECTOR) * SECTOR || SECTOR : bytes.length >> 1
  return bytes.subarray(0, half)
}

const describe = (done: readonly Change[], loose: readonly number[], fate: Fate): string => {
  const lost = loose.flatMap((index) => {
    const how = fate.get(index)
    return how === 'whole' ? [] : [`${how ?? 'lost'}: ${done[index]?.what}`]
  })
  return `cut after ${done.length} changes, the last "${done.at(-1)?.what ?? 'none'}"; ${lost.join('; ') || 'nothing lost'}`
}
