/** What pods get that do not ask for something else: the size of /dev/shm, and kernel parameters of their own namespaces. */
import { RuntimeError } from '#proto/errors.ts'
import type { PodSandboxConfig } from '#proto/generated/api.ts'
import type { Config } from '../config/schema.ts'
import { parseQuantity } from '../network/bandwidth.ts'
import { allowAnnotations } from '../oci/annotations/allow.ts'
import type { RuntimeHandler } from '../oci/runtime-handlers.ts'
import { type PodSysctl, podSysctls } from '../oci/spec/sysctls.ts'
import { podNamespaces } from './sandbox.ts'

const MIB = 1024 * 1024

/** A page is the least that a tmpfs can be. The most is that of the node's memory, which the pod's own limit bounds anyway. */
const [leastShm, mostShm] = [4096, 2 ** 43]

/**
 * The size of the pod's /dev/shm in bytes: what an annotation says that its handler allows, else as configured.
 * @throws RuntimeError invalid-argument when an annotation that counts is no size
 */
export function shmBytes(config: PodSandboxConfig, sandbox: Config['sandbox'], handler: RuntimeHandler): number {
  const { features } = allowAnnotations({
    pod: config.annotations,
    container: {},
    containerName: '',
    patterns: handler.allowedAnnotations ?? [],
  })
  if (features.shmSize === undefined) return sandbox.shmMiB * MIB
  const bytes = parseQuantity(features.shmSize)
  if (bytes !== undefined && bytes >= leastShm && bytes <= mostShm) return bytes
  throw new RuntimeError(
    'invalid-argument',
    `The annotation for the size of /dev/shm must be a quantity such as "128Mi", not ${JSON.stringify(features.shmSize)}`,
  )
}

/**
 * What a pod's own network allows to any user in it: ping without CAP_NET_RAW, which is not among the default
 * capabilities, and ports below 1024. As in containerd 2 and Docker.
 */
const everywhere = { 'net.ipv4.ping_group_range': '0 2147483647', 'net.ipv4.ip_unprivileged_port_start': '0' }

/** In the order in which they are set: the pod's own win, then those of the configuration. @throws RuntimeError */
export function sysctlsOf(config: PodSandboxConfig, configured: Config['sandbox']['sysctls']): PodSysctl[] {
  const { hostNetwork, hostIpc } = podNamespaces(config)
  const isOwn = ({ namespace }: PodSysctl) => (namespace === 'net' ? !hostNetwork : !hostIpc)
  const alone = { hostNetwork: false, hostIpc: false }
  return [
    ...[everywhere, configured].flatMap((defaults) => podSysctls(defaults, alone).filter(isOwn)),
    ...podSysctls(config.linux?.sysctls ?? {}, { hostNetwork, hostIpc }),
  ]
}
