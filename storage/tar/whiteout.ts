/** The archive's way of saying "deleted": `.wh.` names (OCI image-spec, layer.md, "Whiteouts"). Pure. */
import { refused, shown } from './refused.ts'
import { baseOf, join, type PathInLayer, parentOf } from './safe-path.ts'

const PREFIX = '.wh.'
const OPAQUE = '.wh..wh..opq'
/** AUFS kept its own bookkeeping under such names (`.wh..wh.plnk`, `.wh..wh.aufs`); it means nothing elsewhere. */
const BOOKKEEPING = '.wh..wh.'

export type Marker =
  /** An ordinary entry. */
  | { readonly what: 'none' }
  /** Hides `target` of the layers below. */
  | { readonly what: 'whiteout'; readonly target: PathInLayer }
  /** Hides everything that the layers below have in `directory`. */
  | { readonly what: 'opaque'; readonly directory: PathInLayer }
  | { readonly what: 'ignored' }

const NONE: Marker = { what: 'none' }

/** What an entry's name marks. Throws failed-precondition for whiteouts of nothing, of `.` and of `..`. */
export const markerOf = (path: PathInLayer): Marker => {
  if (!path.includes(PREFIX)) return NONE
  const base = baseOf(path)
  const parent = parentOf(path)
  if (path.startsWith(BOOKKEEPING) && path !== OPAQUE) return { what: 'ignored' }
  if (parent.split('/').some((part) => part.startsWith(PREFIX)))
    throw refused(`Archive has an entry below a whiteout: ${shown(path)}`)
  if (base === OPAQUE) return { what: 'opaque', directory: parent }
  if (!base.startsWith(PREFIX)) return NONE
  if (base.startsWith(BOOKKEEPING)) return { what: 'ignored' }
  const hidden = base.slice(PREFIX.length)
  if (hidden === '' || hidden === '.' || hidden === '..')
    throw refused(`Archive has a whiteout of nothing: ${shown(path)}`)
  return { what: 'whiteout', target: join(parent, hidden) }
}

/** Overlayfs hides a name by a character device 0:0 and a directory's lower content by this attribute. */
export const OPAQUE_XATTR = 'trusted.overlay.opaque'
