/** Mounts that the configuration gives every container; a mount of the request at the same place wins. */
import type { OciMount } from './types.ts'

export interface ConfiguredMount {
  readonly source: string
  readonly destination: string
  readonly readonly: boolean
}

/** "/host:/container" or "/host:/container:ro". undefined when the text has not that form. */
export const parseConfiguredMount = (text: string): ConfiguredMount | undefined => {
  const [, source, destination, access] = /^(\/[^:\0]*):(\/[^:\0]+?)(?::(ro|rw))?$/.exec(text) ?? []
  if (source === undefined || destination === undefined || destination === '/') return undefined
  return { source, destination, readonly: access === 'ro' }
}

/** nosuid and nodev as the pod's own files have them: none of these is a place to run privileged programs from. */
export const configuredMount = ({ source, destination, readonly }: ConfiguredMount): OciMount => ({
  destination,
  type: 'bind',
  source,
  options: ['rbind', 'nosuid', 'nodev', readonly ? 'ro' : 'rw', 'rprivate'],
})
