/** Whether the images that a container is made of may run in its namespace, by the signature policy of this moment. */
import type { Images } from '#image/image-store.ts'
import type { ContainerConfig } from '#proto/generated/api.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'

/**
 * The policy may have changed since they were pulled, and be another one for this namespace. Asks no network.
 * @throws RuntimeError signature-validation-failed
 */
export async function authorizeImages(
  images: Pick<Images, 'authorize' | 'resolve'>,
  sandbox: Sandbox,
  { image, mounts }: ContainerConfig,
): Promise<void> {
  const namespace = sandbox.record.config.metadata?.namespace
  for (const spec of [image, ...mounts.map((mount) => mount.image)]) {
    const found = spec && images.resolve(spec.image)
    // The kubelet names what it pulled by id; what the pod says stands beside it.
    if (found) await images.authorize(found, { name: spec.userSpecifiedImage || spec.image, namespace })
  }
}
