/** The label of what the daemon makes for a pod or container; none on a host without SELinux. */
import type { Linux } from '#linux/linux.ts'
import type { ContainerConfig, PodSandboxConfig } from '#proto/generated/api.ts'
import type { SpecHost } from '../oci/spec/host.ts'
import { type SelinuxLabels, selinuxLabels } from '../oci/spec/selinux.ts'
import { ATTRIBUTE } from './label-tree.ts'

interface Pod {
  readonly config: PodSandboxConfig
  readonly selinuxLevel?: string | undefined
}

type Host = Pick<SpecHost, 'selinuxEnabled' | 'selinuxRequired'>

/** @throws RuntimeError as `selinuxLabels` */
export const podLabels = (host: Host, { config, selinuxLevel }: Pod): SelinuxLabels =>
  selinuxLabels({
    container: undefined,
    sandbox: config.linux?.securityContext,
    host,
    podLevel: selinuxLevel,
  })

/** The label of a container's files. @throws RuntimeError as `selinuxLabels` */
export const containerFileLabel = (host: Host, pod: Pod, container: ContainerConfig): string | undefined =>
  selinuxLabels({
    container: container.linux?.securityContext,
    sandbox: pod.config.linux?.securityContext,
    host,
    podLevel: pod.selinuxLevel,
  }).mount

/** A mount option that gives everything on a new file system this label. */
export const contextOption = (label: string | undefined): string[] => (label === undefined ? [] : [`context=${label}`])

/** A file or directory of the daemon's own. */
export const setFileLabel = (linux: Pick<Linux, 'lsetXattr'>, path: string, label: string | undefined): void => {
  if (label !== undefined) linux.lsetXattr(path, ATTRIBUTE, Buffer.from(`${label}\0`))
}
