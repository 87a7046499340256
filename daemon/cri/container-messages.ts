/** Containers as the CRI tells of them. */
import { readFile } from 'node:fs/promises'
import { posix } from 'node:path'
import {
  type Container as ContainerItem,
  ContainerState,
  ContainerStatusResponse,
  type ImageSpec,
  Signal,
} from '#proto/generated/api.ts'
import { type Container, type ContainerStatus, resourcesOf } from '../container/container.ts'
import { type DecideNeeds, decidedResources } from '../container/decided-resources.ts'
import { resourceLimits } from '../oci/spec/resources.ts'
import type { Parts } from '../parts.ts'
import { verboseInfo } from './messages.ts'
import { orderedTimes } from './ordered-times.ts'

function stateOf(status: ContainerStatus): ContainerState {
  switch (status.state) {
    case 'creating':
    case 'created':
      return ContainerState.CONTAINER_CREATED
    case 'running':
      return ContainerState.CONTAINER_RUNNING
    case 'exited':
      return ContainerState.CONTAINER_EXITED
  }
}

export function containerItem({ record, status }: Container): ContainerItem {
  const { id, sandboxId, createdAt, imageId, imageRef, config } = record
  const { metadata, labels, annotations } = config
  const image = imageInUse(config.image)
  const state = stateOf(status)
  return { id, podSandboxId: sandboxId, metadata, image, imageRef, state, createdAt, labels, annotations, imageId }
}

/**
 * One image serves all runtime handlers, and Image.spec names none. A kubelet with RuntimeClassInImageCriApi knows images by id
 * and handler together: if a container repeated the handler that it was asked for with, its image would look unused and be collected.
 */
const imageInUse = (image: ImageSpec | undefined): ImageSpec | undefined => image && { ...image, runtimeHandler: '' }

export function containerStatus(container: Container, info: { [key: string]: string }): ContainerStatusResponse {
  const { record, status } = container
  const { config } = record
  const item = containerItem(container)
  const exit = status.state === 'exited' ? status : undefined
  const process = 'process' in status ? status.process : undefined
  return ContainerStatusResponse.fromPartial({
    status: {
      ...item,
      // What the user wrote in the pod, where the kubelet passed it on.
      image: { ...item.image, image: config.image?.userSpecifiedImage || config.image?.image || record.imageId },
      ...orderedTimes({
        createdAt: item.createdAt,
        startedAt: 'startedAt' in status ? (status.startedAt ?? 0n) : 0n,
        finishedAt: exit?.finishedAt ?? 0n,
      }),
      exitCode: exit?.exitCode ?? 0,
      reason: exit?.reason ?? '',
      message: exit?.message ?? '',
      mounts: mountsInUse(record),
      logPath: record.logPath ?? '',
      resources: { linux: resourcesOf(container) ?? {} },
      ...(process && { user: { linux: userMessage(process.user) }, stopSignal: signalValue(process.stopSignal) }),
    },
    info,
  })
}

/** As requested, of several at one place the last; images with the digest that is in use (api.proto, Mount.image). */
const mountsInUse = ({ config, imageVolumes }: Container['record']) =>
  config.mounts.flatMap((mount, index) => {
    const place = posix.join(mount.containerPath, '/')
    if (config.mounts.some((other, at) => at > index && posix.join(other.containerPath, '/') === place)) return []
    const volume = imageVolumes.find((each) => each.mount === index)
    return volume && mount.image ? { ...mount, image: { ...mount.image, imageRef: volume.imageId } } : mount
  })

const userMessage = (user: { uid: number; gid: number; supplementalGroups: number[] }) => ({
  uid: BigInt(user.uid),
  gid: BigInt(user.gid),
  supplementalGroups: user.supplementalGroups.map(BigInt),
})

/** The enum spells SIGRTMIN+3 as SIGRTMINPLUS3; what it cannot spell is left at its default. */
function signalValue(name: string): Signal {
  const spelled = name.replace('+', 'PLUS').replace('-', 'MINUS')
  return Object.entries(Signal).find(([key]) => key === spelled)?.[1] ?? Signal.RUNTIME_DEFAULT
}

export async function containerInfo(
  parts: DecideNeeds & Pick<Parts, 'paths' | 'specHost' | 'watches'>,
  container: Container,
): Promise<{ [key: string]: string }> {
  const { paths, specHost, watches } = parts
  const { record, status } = container
  const { dir, spec, rootfs } = paths.container(record.id)
  return verboseInfo({
    sandboxID: record.sandboxId,
    pid: ('init' in status ? status.init?.pid : undefined) ?? 0,
    monitored: watches.client(record.id) !== undefined,
    bundle: dir,
    rootfs,
    cgroupsPath: record.cgroupsPath,
    runtimeHandler: record.runtimeHandler,
    status,
    config: record.config,
    runtimeSpec: withLimits(
      await readSpec(spec),
      resourceLimits(decidedResources(parts, container), specHost).resources,
    ),
  })
}

/** The parts of a bundle's config.json that are looked into here. */
interface WrittenSpec {
  readonly linux?: { readonly resources?: object }
}

/** Gone once the container is being removed. */
async function readSpec(path: string): Promise<WrittenSpec | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8'))
  } catch {
    return undefined
  }
}

/** The file keeps the limits that the container was created with; people who ask want those in force. */
const withLimits = (spec: WrittenSpec | undefined, limits: object): WrittenSpec | undefined =>
  spec && { ...spec, linux: { ...spec.linux, resources: { ...spec.linux?.resources, ...limits } } }
