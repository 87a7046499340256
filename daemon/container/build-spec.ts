/** Gathers the facts that the pure spec builder wants: the pod's namespaces and files, the rootfs's users, the host. */
import type { ImageRecord } from '#image/image-store.ts'
import { RuntimeError } from '#proto/errors.ts'
import type { ContainerConfig } from '#proto/generated/api.ts'
import type { RuntimeHandler } from '../oci/runtime-handlers.ts'
import { containerSpec } from '../oci/spec/container-spec.ts'
import type { MountSource } from '../oci/spec/host.ts'
import { namespaceModes } from '../oci/spec/namespaces.ts'
import { readUserFiles } from '../oci/spec/rootfs-user.ts'
import type { OciSpec } from '../oci/spec/types.ts'
import { specFacts } from '../oci/spec-facts.ts'
import type { Parts } from '../parts.ts'
import { podHostname } from '../sandbox/etc-files.ts'
import { podNamespaces, type Sandbox } from '../sandbox/sandbox.ts'
import type { Container, ContainerProcess } from './container.ts'

export type SpecNeeds = Pick<Parts, 'containers' | 'linux' | 'paths' | 'specHost'>

export interface SpecInput {
  readonly sandbox: Sandbox
  readonly container: Container
  readonly image: ImageRecord
  readonly handler: RuntimeHandler
  /** What the daemon mounted for the request's mounts, by their index. */
  readonly volumes: ReadonlyMap<number, MountSource>
}

export interface BuiltSpec {
  readonly spec: OciSpec
  readonly process: ContainerProcess
  readonly warnings: readonly string[]
}

/** The OCI spec of a container whose rootfs is mounted. @throws RuntimeError what the builder refuses */
export async function buildSpec(
  needs: SpecNeeds,
  { sandbox, container, image, handler, volumes }: SpecInput,
): Promise<BuiltSpec> {
  const { record } = container
  const paths = needs.paths.sandbox(sandbox.record.id)
  const { rootfs } = needs.paths.container(record.id)
  const { hostNetwork, hostIpc } = podNamespaces(sandbox.record.config)
  const facts = await specFacts(record.config)
  const built = containerSpec({
    id: record.id,
    container: record.config,
    sandbox: sandbox.record.config,
    sandboxId: sandbox.record.id,
    image: image.config,
    imageName: record.config.image?.userSpecifiedImage || record.config.image?.image || image.id,
    host: needs.specHost,
    features: handler.features,
    rootfs: { path: rootfs, ...readUserFiles(needs.linux, rootfs) },
    namespaces: {
      net: hostNetwork ? 'host' : paths.pin('net'),
      ipc: hostIpc ? 'host' : paths.pin('ipc'),
      uts: hostNetwork ? 'host' : paths.pin('uts'),
      pid: pidPath(needs, sandbox, record.config),
    },
    hostname: podHostname(sandbox.record.config),
    etcFiles: {
      hostname: paths.hostname,
      resolvConf: paths.resolvConf,
      hosts: paths.hosts,
      shm: hostIpc ? '/dev/shm' : paths.shm,
    },
    cgroupsPath: record.cgroupsPath,
    ...facts,
    mountSources: new Map([...(facts.mountSources ?? []), ...volumes]),
  })
  return {
    spec: built.spec,
    warnings: built.warnings,
    process: {
      user: { ...built.user, supplementalGroups: [...built.user.supplementalGroups] },
      stopSignal: built.stopSignal,
    },
  }
}

function pidPath(needs: SpecNeeds, sandbox: Sandbox, config: ContainerConfig): string {
  switch (namespaceModes(config, sandbox.record.config).pid) {
    case 'container':
      return 'new'
    case 'host':
      return 'host'
    case 'pod':
      return needs.paths.sandbox(sandbox.record.id).pin('pid')
    case 'target':
      return targetPath(needs, sandbox, config.linux?.securityContext?.namespaceOptions?.targetId ?? '')
  }
}

function targetPath(needs: SpecNeeds, sandbox: Sandbox, containerId: string): string {
  const field = `linux.security_context.namespace_options.target_id "${containerId}"`
  const target = containerId === '' ? undefined : needs.containers.find(containerId)
  if (target?.record.sandboxId !== sandbox.record.id) {
    throw new RuntimeError('not-found', `${field} is no container of sandbox "${sandbox.record.id}"`)
  }
  const { status } = target
  if (status.state !== 'running' || !needs.linux.isAlive(status.init)) {
    throw new RuntimeError('failed-precondition', `${field} is not running`)
  }
  return `/proc/${status.init.pid}/ns/pid`
}
