/**
 * Which entry of an index is for this host. Only the host's own architecture counts (older variants of it too): running
 * another one by emulation is never chosen silently.
 */

import { readFileSync } from 'node:fs'
import { RuntimeError } from '#proto/errors.ts'
import type { ImageIndex, IndexEntry, Platform } from './manifest.ts'
import { documentKind } from './media-types.ts'

const architectures: Partial<Record<NodeJS.Architecture, string>> = {
  x64: 'amd64',
  arm64: 'arm64',
  arm: 'arm',
  ia32: '386',
  ppc64: 'ppc64le',
  s390x: 's390x',
  riscv64: 'riscv64',
  loong64: 'loong64',
}

/** The platform of this host in the words of image indexes. */
export const hostPlatform = (): Platform => {
  const architecture = architectures[process.arch] ?? process.arch
  const variant = architecture === 'arm64' ? 'v8' : architecture === 'arm' ? armVariant() : undefined
  return { os: 'linux', architecture, ...(variant !== undefined && { variant }) }
}

/** "CPU architecture: 7" → "v7"; the least that Node itself runs on when the kernel does not say. */
const armVariant = (): string => {
  const found = /^CPU architecture\s*:\s*(\d+)/m.exec(readFileSync('/proc/cpuinfo', 'latin1'))
  return `v${Math.min(Number(found?.[1] ?? 7), 7)}`
}

/**
 * The best entry for this host: its own variant first, then older ones; equals in the order of the index.
 * An entry that names no platform is taken only when nothing else fits.
 * @throws RuntimeError failed-precondition when there is none
 */
export const choosePlatform = (index: ImageIndex, host: Platform, what: string): IndexEntry => {
  const usable = index.entries.filter((entry) => documentKind(entry.mediaType) !== undefined)
  let best: { entry: IndexEntry; rank: number } | undefined
  for (const entry of usable) {
    const rank = rankOf(entry.platform ?? undefined, host)
    if (rank !== undefined && (best === undefined || rank < best.rank)) best = { entry, rank }
  }
  if (best) return best.entry
  const offered = usable.slice(0, 20).map((entry) => platformText(entry.platform ?? undefined))
  throw new RuntimeError(
    'failed-precondition',
    `${what} has nothing for ${platformText(host)}, only ${offered.join(', ') || 'no image at all'}`,
  )
}

/** Whether an image that calls itself this can run here; images that do not say are believed. */
export const fitsHost = (architecture: string, os: string, host: Platform): boolean =>
  (os === '' || os === host.os) && (architecture === '' || architecture === host.architecture)

/** "linux/arm64/v8", safe to print. */
export const platformText = (platform: Platform | undefined): string =>
  platform === undefined
    ? 'unnamed'
    : [platform.os, platform.architecture, ...(platform.variant ? [platform.variant] : [])]
        .join('/')
        .replace(/[^\w./-]/g, '?')

const UNNAMED = 1000

/** Lower is better; undefined cannot run here. */
const rankOf = (offered: Platform | undefined, host: Platform): number | undefined => {
  if (offered === undefined) return UNNAMED
  if (offered.os !== host.os || offered.architecture !== host.architecture) return undefined
  const distance = level(host) - level(offered)
  if (distance < 0) return undefined
  // Of two that mean the same the one that is spelled like the host.
  return 2 * distance + ((offered.variant ?? '') === (host.variant ?? '') ? 0 : 1)
}

/** What an architecture without variant means: "arm" is "arm/v7". */
const plainest: Record<string, number> = { amd64: 1, arm64: 8, arm: 7 }

/** "v7" → 7. Hosts of amd64 are not probed for more than v1; a variant of another form runs nowhere. */
const level = ({ architecture, variant }: Platform): number => {
  if (!variant) return plainest[architecture] ?? 0
  return Number(/^v(\d{1,2})/.exec(variant)?.[1] ?? Number.POSITIVE_INFINITY)
}
