/** The OCI spec of a container as it is in force, from its bundle. */
import { readFile } from 'node:fs/promises'
import type { Container } from '../container/container.ts'
import { type DecideNeeds, decidedResources } from '../container/decided-resources.ts'
import { overlayOci } from '../oci/spec/overlay-resources.ts'
import { resourceLimits } from '../oci/spec/resources.ts'
import type { OciSpec } from '../oci/spec/types.ts'
import type { Parts } from '../parts.ts'

/** The file keeps the limits that the container was created with: those that were changed since are laid over. undefined once it is gone. */
export async function readSpec(
  needs: DecideNeeds & Pick<Parts, 'paths' | 'specHost'>,
  container: Container,
): Promise<OciSpec | undefined> {
  try {
    const spec: OciSpec = JSON.parse(await readFile(needs.paths.container(container.record.id).spec, 'utf8'))
    const { resources } = resourceLimits(decidedResources(needs, container), needs.specHost)
    return { ...spec, linux: { ...spec.linux, resources: overlayOci(spec.linux.resources, resources) } }
  } catch {
    return undefined
  }
}
