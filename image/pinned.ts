/** Images that are kept whatever happens: by names that an operator wrote, in which "*" stands for any characters. */

import type { ImageRecord } from './image-record.ts'

type Named = Pick<ImageRecord, 'pinned' | 'repoTags' | 'repoDigests'>

/** Whether one of an image's names, or the repository of one, is meant. */
export const pinnedBy = (patterns: readonly string[]): ((image: Named) => boolean) => {
  const meant = patterns.map((pattern) => pattern.split('*'))
  return ({ pinned, repoTags, repoDigests }) => {
    if (pinned || meant.length === 0) return pinned
    const names = [...repoTags, ...repoDigests].flatMap((name) => [name, name.replace(/@.*$|:[^/:@]*$/, '')])
    return names.some((name) => meant.some((parts) => fits(parts, name)))
  }
}

/** @param parts what stands between the stars */
const fits = ([first = '', ...more]: readonly string[], name: string): boolean => {
  const last = more.pop()
  if (last === undefined) return name === first
  if (!name.startsWith(first)) return false
  let at = first.length
  for (const part of more) {
    const found = name.indexOf(part, at)
    if (found < 0) return false
    at = found + part.length
  }
  return name.length - last.length >= at && name.endsWith(last)
}
