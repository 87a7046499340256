/** Chain ids: one digest for a whole stack of layers (OCI image-spec, config.md, "Layer ChainID"). */
import { type DiffId, type Digest, digestOf } from './digest.ts'

declare const chainIdBrand: unique symbol

/** Names a stack of layers; two stacks share it only when every layer is the same, in the same order. */
export type ChainId = Digest & { readonly [chainIdBrand]: true }

/** The chain id of layers given bottom first; undefined for no layers. */
export const chainId = (diffIds: readonly DiffId[]): ChainId | undefined => {
  const [bottom, ...rest] = diffIds
  if (bottom === undefined) return undefined
  return rest.reduce<Digest>((below, diffId) => digestOf(`${below} ${diffId}`), bottom) as ChainId
}
