/**
 * The annotations of the OCI spec: our own, and of pod and container those that the runtime handler allows by name. No others
 * get here, and none of images: OCI runtimes act on some, such as unit properties and hooks (CVE-2024-3154).
 */
import type { ContainerConfig, PodSandboxConfig } from '#proto/generated/api.ts'
import type { AllowedAnnotations } from '../annotations/allow.ts'

export interface AnnotationInput {
  readonly id: string
  readonly sandboxId: string
  readonly imageName: string
  readonly container: ContainerConfig
  readonly sandbox: PodSandboxConfig
  readonly annotations?: AllowedAnnotations
}

/** Sandboxed runtimes find their pod by the `io.kubernetes.cri` names; the others are for people who read config.json. */
export const containerAnnotations = (input: AnnotationInput): Record<string, string> => ({
  ...input.annotations?.passed,
  'io.cricket.container-id': input.id,
  'io.cricket.sandbox-id': input.sandboxId,
  'io.kubernetes.cri.container-type': 'container',
  'io.kubernetes.cri.sandbox-id': input.sandboxId,
  'io.kubernetes.cri.container-name': input.container.metadata?.name ?? '',
  'io.kubernetes.cri.image-name': input.imageName,
  ...sandboxNames(input.sandbox),
})

export const sandboxAnnotations = (sandboxId: string, sandbox: PodSandboxConfig): Record<string, string> => ({
  'io.cricket.sandbox-id': sandboxId,
  'io.kubernetes.cri.container-type': 'sandbox',
  'io.kubernetes.cri.sandbox-id': sandboxId,
  ...sandboxNames(sandbox),
})

const sandboxNames = ({ metadata }: PodSandboxConfig): Record<string, string> => ({
  'io.kubernetes.cri.sandbox-name': metadata?.name ?? '',
  'io.kubernetes.cri.sandbox-namespace': metadata?.namespace ?? '',
  'io.kubernetes.cri.sandbox-uid': metadata?.uid ?? '',
})
