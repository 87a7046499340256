/** Gathers the facts that the pure spec builder wants: the pod's namespaces and files, the rootfs's users, the host. */
import { chown } from 'node:fs/promises'
import type { RunnableImage } from '#image/image-store.ts'
import { RuntimeError } from '#proto/errors.ts'
import type { ContainerConfig } from '#proto/generated/api.ts'
import { writeNamedFile } from '#storage/write-file.ts'
import { applyCdiEdits } from '../oci/cdi/apply-edits.ts'
import { cdiDeviceNames } from '../oci/cdi/device-names.ts'
import { findCdiDevices } from '../oci/cdi/find-devices.ts'
import { findHooks, withHooks } from '../oci/hooks/find-hooks.ts'
import { hostDevice } from '../oci/resolve-devices.ts'
import type { RuntimeHandler } from '../oci/runtime-handlers.ts'
import { containerSpec } from '../oci/spec/container-spec.ts'
import type { MountSource } from '../oci/spec/host.ts'
import { namespaceModes } from '../oci/spec/namespaces.ts'
import { checkRootfsShape } from '../oci/spec/rootfs-shape.ts'
import { readUserFiles, type UserFiles } from '../oci/spec/rootfs-user.ts'
import { selinuxLabels } from '../oci/spec/selinux.ts'
import type { OciSpec } from '../oci/spec/types.ts'
import { specFacts } from '../oci/spec-facts.ts'
import type { Parts } from '../parts.ts'
import type { ContainerPaths } from '../paths.ts'
import { podHostname } from '../sandbox/etc-files.ts'
import { podIdMap, podNamespaces, type Sandbox } from '../sandbox/sandbox.ts'
import { rootOf } from '../sandbox/user-namespaces.ts'
import { setFileLabel } from '../selinux/file-labels.ts'
import { relabelVolumes, type VolumeLabels } from '../selinux/relabel-volumes.ts'
import { bindSources, holdsOurs } from './bound-mounts.ts'
import { configuredMounts, configuredRlimits, withConfiguredDevices } from './configured.ts'
import type { Container, ContainerProcess } from './container.ts'
import { makeDeclaredVolumes } from './declared-volumes.ts'
import { findNestedMounts, mountNested, NO_NESTED_MOUNTS } from './nested-mounts.ts'
import { nodeFeatures, notifierAction } from './node-features.ts'

export type SpecNeeds = Pick<
  Parts,
  'config' | 'containers' | 'linux' | 'log' | 'paths' | 'seccompNotifier' | 'specHost'
>

export interface SpecInput {
  readonly sandbox: Sandbox
  readonly container: Container
  readonly image: RunnableImage
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
export async function buildSpec(needs: SpecNeeds, input: SpecInput): Promise<BuiltSpec> {
  const { sandbox, container, image, handler, volumes } = input
  const { record } = container
  const paths = needs.paths.sandbox(sandbox.record.id)
  const own = needs.paths.container(record.id)
  const { rootfs } = own
  const { hostNetwork, hostIpc } = podNamespaces(sandbox.record.config)
  const extra = nodeFeatures(needs.config, handler, sandbox, record.config, own.seccompListener)
  const config = withConfiguredDevices(extra.config, needs.config)
  const settings = needs.config.container
  const facts = await specFacts(
    config,
    { defaultSeccomp: handler.seccompProfile, privilegedSeccomp: settings.privilegedSeccompProfile },
    settings.rejectMissingSources,
  )
  const labels = volumeLabels(needs, input, extra.annotations.features.trustVolumeLabels === 'true')
  await relabelVolumes(config, facts.mountSources ?? new Map(), labels, { linux: needs.linux, log: needs.log })
  const idMap = podIdMap(sandbox.record.config)
  checkRootfsShape(needs.linux, rootfs)
  const declared = await makeDeclaredVolumes(needs, {
    volumes: image.config.volumes,
    config,
    paths: own,
    owner: rootOf(idMap),
  })
  const ownMounts = [...configuredMounts(needs.config), ...declared]
  // In a pod with mapped ids the runtime makes mount points with the rights of the pod, who is nobody on the node.
  const nested =
    handler.features.followsVolumes && !idMap
      ? findNestedMounts(config, {
          others: ownMounts.map(({ destination }) => destination),
          unfit: (index) => holdsOurs(needs.paths, facts.mountSources?.get(index)?.path ?? ''),
        })
      : NO_NESTED_MOUNTS
  const sources = bindSources(needs, own, config, facts.mountSources ?? new Map(), {
    podMap: idMap,
    holders: nested.holders,
  })
  const built = containerSpec({
    id: record.id,
    container: config,
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
      user: paths.pin('user'),
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
    pidsLimit: settings.pidsLimit,
    defaultEnv: settings.env,
    rlimits: configuredRlimits(needs.config),
    ownMounts,
    deviceOwnership: settings.deviceOwnershipFromSecurityContext,
    privilegedDevices: !handler.privilegedWithoutHostDevices,
    accountFilePaths: own,
    mountSources: mountNested(needs, config, nested, new Map([...sources, ...volumes])),
    ...(sandbox.record.selinuxLevel !== undefined && { selinuxLevel: sandbox.record.selinuxLevel }),
    annotations: extra.annotations,
    node: extra.node,
  })
  await writeAccountFiles(own, built.accountFiles, rootOf(idMap))
  for (const name of ['passwd', 'group'] as const) {
    if (built.accountFiles[name] !== undefined) setFileLabel(needs.linux, own[name], labels.mount)
  }
  for (const { source } of declared) setFileLabel(needs.linux, source, labels.mount)
  const warnings = [...extra.warnings, ...built.warnings]
  const edits = findCdiDevices(settings.cdiSpecDirs, cdiDeviceNames(config), (why) => warnings.push(why))
  const action = built.spec.linux.seccomp?.listenerPath === undefined ? undefined : notifierAction(extra.annotations)
  if (action) needs.seccompNotifier.watch(record.id, own.seccompListener, action)
  const edited = applyCdiEdits(built.spec, edits, hostDevice)
  const hooks = findHooks(settings.hooksDirs, {
    annotations: { ...sandbox.record.config.annotations, ...config.annotations },
    command: edited.process.args[0] ?? '',
    hasBindMounts: config.mounts.length > 0,
  })
  return {
    spec: withHooks(edited, hooks),
    warnings,
    process: {
      user: { ...built.user, supplementalGroups: [...built.user.supplementalGroups] },
      stopSignal: built.stopSignal,
    },
  }
}

function volumeLabels(needs: SpecNeeds, { sandbox, container }: SpecInput, isAsked: boolean): VolumeLabels {
  const { config } = needs
  const { config: pod, selinuxLevel } = sandbox.record
  const modes = namespaceModes(container.record.config, pod)
  const { process, mount } = selinuxLabels({
    container: container.record.config.linux?.securityContext,
    sandbox: pod.linux?.securityContext,
    host: needs.specHost,
    podLevel: selinuxLevel,
    sharesNode: modes.pid === 'host' || modes.ipc === 'host',
  })
  return {
    process,
    mount,
    trustTop: isAsked || config.container.trustVolumeLabels,
    own: [config.root, config.state],
  }
}

async function writeAccountFiles(
  paths: ContainerPaths,
  files: UserFiles,
  owner: { uid: number; gid: number },
): Promise<void> {
  for (const name of ['passwd', 'group'] as const) {
    const text = files[name]
    if (text === undefined) continue
    await writeNamedFile(paths[name], text, 0o644)
    await chown(paths[name], owner.uid, owner.gid)
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
