/**
 * Mounts whose place lies in another mount of the request. Some OCI runtimes make that place by its path, which another
 * container with the volume can lead out to the node meanwhile (threat B7). Then the daemon makes it, by descriptors, and
 * mounts there itself, in a copy of the volume that nobody else has; the runtime mounts the whole.
 */
import { closeSync, constants, fstatSync, mkdirSync, writeFileSync } from 'node:fs'
import { isErrno } from '#linux/errno.ts'
import { type ContainerConfig, type Mount, MountPropagation } from '#proto/generated/api.ts'
import type { MountSource } from '../oci/spec/host.ts'
import { absolutePath, impossible, isWithin, quoted } from '../oci/spec/refuse.ts'
import type { Parts } from '../parts.ts'
import { openResolved } from './bound-mounts.ts'

const O_PATH = 0x200000
const DIRECTORY = O_PATH | constants.O_DIRECTORY
const { PROPAGATION_BIDIRECTIONAL, PROPAGATION_HOST_TO_CONTAINER } = MountPropagation

export interface NestedMounts {
  /** Indices of mounts in which others lie; none of them lies in another one itself. */
  readonly holders: ReadonlySet<number>
  /** Outer ones first. */
  readonly nested: readonly NestedMount[]
}

interface NestedMount {
  readonly index: number
  readonly holder: number
  /** Its place, from that of the holder on. */
  readonly path: string
  /** Whether the place may be made in the mount that it lies in. */
  readonly mayMake: boolean
}

export const NO_NESTED_MOUNTS: NestedMounts = { holders: new Set(), nested: [] }

interface Place {
  readonly index: number
  readonly mount: Mount
  readonly destination: string
}

interface LeftToRuntime {
  /** Places of mounts that are none of the request. */
  readonly others: readonly string[]
  /** Whether the source of this mount cannot be copied into another one. */
  unfit(index: number): boolean
}

/** Where the runtime itself mounts: what lies there has to come after that. */
const RUNTIMES = ['/dev', '/proc', '/sys']

/**
 * Which mounts those are. Left to the runtime is what lies in a mount that the node shall see as well, which takes a privileged container.
 * @throws RuntimeError invalid-argument
 */
export const findNestedMounts = ({ mounts }: Pick<ContainerConfig, 'mounts'>, left: LeftToRuntime): NestedMounts => {
  const places = placesOf(mounts)
  const unfit = places.filter(({ index }) => left.unfit(index)).map(({ destination }) => destination)
  const others = [...left.others, ...unfit]
  const nested = places.flatMap((place): NestedMount[] => {
    const above = places.filter(({ destination }) => isBelow(place.destination, destination))
    const [holder] = above
    const around = above.at(-1)
    if (!holder || !around) return []
    const isShared = [place, ...above].some(({ mount }) => mount.propagation === PROPAGATION_BIDIRECTIONAL)
    const isBelowOthers = others.some(
      (other) => isWithin(place.destination, other) && isBelow(other, holder.destination),
    )
    if (isShared || isBelowOthers || RUNTIMES.some((tree) => isWithin(holder.destination, tree))) return []
    return [
      {
        index: place.index,
        holder: holder.index,
        path: place.destination.slice(holder.destination.length + 1),
        mayMake: !around.mount.readonly,
      },
    ]
  })
  return { holders: new Set(nested.map(({ holder }) => holder)), nested }
}

const isBelow = (path: string, ancestor: string): boolean => path !== ancestor && isWithin(path, ancestor)

/** Of several mounts at one place the last counts. Outer ones first. */
const placesOf = (mounts: readonly Mount[]): Place[] => {
  const places = new Map<string, Place>()
  for (const [index, mount] of mounts.entries()) {
    const destination = absolutePath(`mounts[${index}].container_path`, mount.containerPath)
    places.set(destination, { index, mount, destination })
  }
  return [...places.values()].sort((a, b) => a.destination.split('/').length - b.destination.split('/').length)
}

/**
 * Mounts them in their holders, whose sources are the daemon's own places already.
 * @throws RuntimeError failed-precondition when there is no place, or a link in the way
 */
export function mountNested(
  { linux }: Pick<Parts, 'linux'>,
  { mounts }: ContainerConfig,
  { nested }: NestedMounts,
  sources: ReadonlyMap<number, MountSource>,
): Map<number, MountSource> {
  const after = new Map(sources)
  for (const { index, holder, path, mayMake } of nested) {
    const [mount, source, inside] = [mounts[index], sources.get(index), after.get(holder)]
    if (!mount || !source || !inside) continue
    const field = `mounts[${index}]`
    const from = openResolved(linux, field, source.path)
    try {
      const place = { field, path, isDirectory: fstatSync(from).isDirectory(), mayMake }
      const target = openPlace(linux, inside.path, place)
      try {
        const follows = mount.propagation === PROPAGATION_HOST_TO_CONTAINER
        const propagation = follows ? 'slave' : 'private'
        linux.bindTree({ source: from, target, recursive: true, readonly: mount.readonly, propagation })
        after.set(index, { ...source, isInside: true })
        if (follows) after.set(holder, { ...inside, holdsSlaves: true })
      } catch (cause) {
        // Somebody has removed it since.
        if (!isErrno(cause, 'ENOENT')) throw cause
        throw noPlace(field, path, cause)
      } finally {
        closeSync(target)
      }
    } finally {
      closeSync(from)
    }
  }
  return after
}

const noPlace = (field: string, path: string, cause: unknown) =>
  impossible(`${field}: there is no place for it at ${quoted(path)} of the volume that it lies in`, cause)

interface WantedPlace {
  readonly field: string
  readonly path: string
  readonly isDirectory: boolean
  readonly mayMake: boolean
}

/** One name below an open directory at a time, so that nothing is left to follow. @returns a descriptor */
function openPlace(linux: Parts['linux'], root: string, wanted: WantedPlace): number {
  const { field, path, isDirectory, mayMake } = wanted
  const names = path.split('/')
  let place = linux.openBeneath(root, '.', DIRECTORY)
  try {
    for (const [depth, name] of names.entries()) {
      const flags = depth < names.length - 1 || isDirectory ? DIRECTORY : O_PATH
      const next = openOrMake(linux, place, name, { flags, mayMake })
      closeSync(place)
      place = next
    }
    return place
  } catch (cause) {
    closeSync(place)
    throw noPlace(field, path, cause)
  }
}

function openOrMake(
  linux: Parts['linux'],
  directory: number,
  name: string,
  { flags, mayMake }: { readonly flags: number; readonly mayMake: boolean },
): number {
  const open = () => linux.openBeneath(directory, name, flags, 0, { noSymlinks: true })
  try {
    return open()
  } catch (error) {
    if (!mayMake || !isErrno(error, 'ENOENT')) throw error
  }
  const path = `/proc/self/fd/${directory}/${name}`
  if (flags === DIRECTORY) mkdirSync(path, { mode: 0o755 })
  else writeFileSync(path, '', { flag: 'wx', mode: 0o755 })
  return open()
}
