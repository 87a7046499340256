/** Extended attributes of a file of one layer, for its copy in another. */
import { lgetXattr, llistXattr, lsetXattr } from '#linux/xattr.ts'
import { isAllowedXattr } from './xattr-policy.ts'

export const copyXattrs = (from: Buffer, to: Buffer): void => {
  for (const name of llistXattr(from)) {
    const value = isAllowedXattr(name) ? lgetXattr(from, name) : undefined
    if (value !== undefined) lsetXattr(to, name, value)
  }
}
