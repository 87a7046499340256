/** What a check says is wrong with one thing of the storage, and how that is repaired. */

export type FindingKind = 'layer' | 'blob' | 'fix-up' | 'rootfs' | 'stray' | 'image' | 'record'

export interface Finding {
  readonly kind: FindingKind
  /** Digest, id or file name. */
  readonly id: string
  readonly path: string
  /** What is wrong, such as `3 files differ: "etc/passwd" is missing; …`. */
  readonly why: string
  /** What a repair does about it. */
  readonly remedy: 'fetch again' | 'make anew' | 'put aside' | 'replace the container' | 'write anew' | 'sweep'
}

export interface Checked {
  readonly findings: readonly Finding[]
  /** How much was looked at. */
  readonly looked: Readonly<Record<'layers' | 'blobs' | 'rootfs' | 'images' | 'records', number>>
  /** Layers without a manifest, of which only the record could be looked at. */
  readonly withoutManifest: number
}
