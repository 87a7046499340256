/**
 * Refuses a malformed CreateContainer before anything is made for it. The spec is built once for what the request alone
 * says, as if this host had everything that it asks for; what only the host or the image can tell is found out later.
 */
import type { RunnableImage } from '#image/image-store.ts'
import { isKind } from '#proto/errors.ts'
import type { ContainerConfig } from '#proto/generated/api.ts'
import type { RuntimeHandler } from '../oci/runtime-handlers.ts'
import { containerSpec } from '../oci/spec/container-spec.ts'
import type { HostDevice, MountSource } from '../oci/spec/host.ts'
import { namespaceModes } from '../oci/spec/namespaces.ts'
import type { Parts } from '../parts.ts'
import { podNamespaces, type Sandbox } from '../sandbox/sandbox.ts'

export interface CheckedRequest {
  readonly sandbox: Sandbox
  readonly config: ContainerConfig
  readonly image: RunnableImage
  readonly handler: RuntimeHandler
}

const DEVICE: HostDevice = { path: '/dev/null', type: 'c', major: 1, minor: 3, mode: 0o666, uid: 0, gid: 0 }
const SOURCE: MountSource = { path: '/', propagation: 'shared-slave' }
const NO_FILTER = '{"defaultAction":"SCMP_ACT_ALLOW"}'

/** @throws RuntimeError invalid-argument; whatever else the builder says is not for now */
export function checkRequest(
  needs: Pick<Parts, 'specHost'>,
  { sandbox, config, image, handler }: CheckedRequest,
): void {
  const { id, config: pod } = sandbox.record
  const { hostNetwork, hostIpc } = podNamespaces(pod)
  try {
    const { pid } = namespaceModes(config, pod)
    containerSpec({
      id,
      sandboxId: id,
      container: config,
      sandbox: pod,
      image: image.config,
      imageName: image.id,
      host: needs.specHost,
      features: handler.features,
      rootfs: { path: '/' },
      namespaces: {
        net: hostNetwork ? 'host' : '/',
        ipc: hostIpc ? 'host' : '/',
        uts: hostNetwork ? 'host' : '/',
        pid: pid === 'container' ? 'new' : pid === 'host' ? 'host' : '/',
        user: '/',
      },
      hostname: '',
      etcFiles: { hostname: '/', resolvConf: '/', hosts: '/', shm: '/' },
      cgroupsPath: '/',
      devices: config.devices.map(({ hostPath, containerPath, permissions }) => ({
        device: DEVICE,
        containerPath: containerPath || hostPath,
        access: permissions,
      })),
      hostDevices: [],
      mountSources: new Map(config.mounts.map((_, index) => [index, SOURCE])),
      localhostSeccomp: NO_FILTER,
    })
  } catch (error) {
    if (isKind(error, 'invalid-argument')) throw error
  }
}
