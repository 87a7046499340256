/** How much one layer may ask for before it is refused; every count and length that an image controls is bounded here. */

/** Bounds on a whole layer. */
export interface UnpackLimits {
  /** Bytes of the uncompressed archive. */
  readonly archiveBytes: number
  /** Header blocks in the archive, extension headers included. */
  readonly headers: number
  /** Directories in the layer: their times are kept in memory until the end. */
  readonly directories: number
  /** Directories without an entry of their own: they are kept in the layer's record. */
  readonly implicitDirectories: number
  /** Directories that hide what lower layers have: each is marked one by one. */
  readonly opaqueDirectories: number
  /** Hard links to what is not in the archive: they are kept in the layer's record. */
  readonly lowerLinks: number
  /** Of the names of all these together. */
  readonly keptNameBytes: number
  /** Bytes of the file system left free, so that the daemon can always write its own state. */
  readonly reservedBytes: number
}

export const DEFAULT_LIMITS: UnpackLimits = {
  archiveBytes: 64 * 2 ** 30,
  headers: 5_000_000,
  directories: 1_000_000,
  implicitDirectories: 100_000,
  opaqueDirectories: 10_000,
  lowerLinks: 10_000,
  keptNameBytes: 16 * 2 ** 20,
  reservedBytes: 2 ** 30,
}

/** Bytes of one extension header's content: pax records, long names, sparse maps (CVE-2017-14992, CVE-2025-58183). */
export const MAX_EXTENSION_BYTES = 2 ** 20

/** PATH_MAX without the NUL and without the slash that the unpacker puts in front. */
export const MAX_PATH_BYTES = 4094

/** NAME_MAX. */
export const MAX_COMPONENT_BYTES = 255

/** Looks at files of layers for one fix-up, which take a minute at most: a stack of many layers can ask for any number. */
export const MAX_LOOKS = 20_000_000

/** Symbolic links followed while resolving one path, as in the kernel. */
export const MAX_LINKS_FOLLOWED = 40
