/** What is written down of a container before anything of it is made. */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { RunnableImage } from '#image/image-store.ts'
import type { ContainerConfig } from '#proto/generated/api.ts'
import { nowNs } from '../clock.ts'
import type { ContainerId } from '../ids.ts'
import { cgroupsPath } from '../oci/cgroup-path.ts'
import { type RuntimeHandler, runtimeUsed } from '../oci/runtime-handlers.ts'
import type { Parts } from '../parts.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'
import type { ContainerRecord } from './container.ts'
import { imageVolumes } from './image-volumes.ts'

type RecordNeeds = Pick<Parts, 'bootId' | 'config' | 'images'>

interface NewContainer {
  readonly id: ContainerId
  readonly key: string
  readonly config: ContainerConfig
  readonly image: RunnableImage
  readonly handler: RuntimeHandler
  readonly isRestored: boolean
}

export function newRecord(needs: RecordNeeds, sandbox: Sandbox, own: NewContainer): ContainerRecord {
  const { id, key, config, image, handler, isRestored } = own
  const directory = sandbox.record.config.logDirectory
  const parent = sandbox.record.config.linux?.cgroupParent ?? ''
  return {
    version: 1,
    id,
    key,
    sandboxId: sandbox.record.id,
    createdAt: nowNs(),
    runtimeHandler: sandbox.record.runtimeHandler,
    runtime: runtimeUsed(handler),
    bootId: needs.bootId,
    config,
    imageId: image.id,
    imageRef: image.repoDigests[0] ?? image.id,
    imageVolumes: imageVolumes(needs.images, config),
    ...(isRestored && { restored: true }),
    ...(directory && config.logPath && { logPath: join(directory, config.logPath) }),
    cgroupsPath: cgroupsPath(needs.config.cgroupDriver, parent, id),
    cookie: randomBytes(16).toString('hex'),
  }
}
