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
 * The best entry for this host: exact variant first, then older ones, then no variant; equals in the order of the index.
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
  if ((offered.variant ?? '') === (host.variant ?? '')) return 0
  if (!offered.variant) return host.architecture === 'arm' ? 100 - 7 : 100
  const distance = level(host) - level(offered)
  return distance >= 0 ? distance : undefined
}

/** "v7" → 7. No variant means the plainest machine of its architecture; amd64 hosts are not probed for more than v1. */
const level = (platform: Platform): number => {
  const found = /^v(\d{1,2})/.exec(platform.variant ?? '')
  if (found) return Number(found[1])
  return platform.variant ? Number.POSITIVE_INFINITY : (plainest[platform.architecture] ?? 0)
}

const plainest: Record<string, number> = { amd64: 1, arm64: 8, arm: 7 }
