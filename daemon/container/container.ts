/**
 * A container: what CreateContainer froze, and its life.
 *
 *             CreateContainer                       StartContainer             init ends, monitor lost, reboot
 *   (nothing) ───────────────► creating ──► created ──────────────► running ─────────────────────────► exited
 *                                 │            │                                                          │
 *                                 │            └── start failed (128 StartError), stopped unstarted ──► exited
 *                                 └─ failed, or the daemon died: undone, never listed                     │
 *                                                                                 RemoveContainer ◄───────┘
 */
import * as z from 'zod'
import { ContainerConfig, type LinuxContainerResources } from '#proto/generated/api.ts'
import { nowNs } from '../clock.ts'
import { ContainerId, SandboxId } from '../ids.ts'
import { resourcesRecord } from '../oci/resources-record.ts'
import { RuntimeUsed } from '../oci/runtime-handlers.ts'
import type { RecordCodec, RecordStore } from '../records/record-store.ts'
import { bigintText, messageText, messageToText, processIdentity } from '../records/schema.ts'
import type { Stored } from '../records/stored.ts'
import { ImageVolume } from './image-volumes.ts'

const ContainerRecord = z.object({
  version: z.literal(1),
  id: ContainerId,
  /** Names the attempt of this container in its sandbox; unique among containers that are not removed. */
  key: z.string(),
  sandboxId: SandboxId,
  createdAt: bigintText,
  /** Those of the sandbox. */
  runtimeHandler: z.string(),
  runtime: RuntimeUsed.optional(),
  bootId: z.string(),
  config: messageText(ContainerConfig.decode),
  /** The image id, and the digest reference that the status reports beside it. */
  imageId: z.string(),
  imageRef: z.string(),
  /** Absent in records of before there were any. */
  imageVolumes: z.array(ImageVolume).default([]),
  /** Made from a checkpoint, not by its command; `imageId` is the image that the checkpoint is based on. */
  restored: z.boolean().optional(),
  /** Absolute; absent when the pod asked for no log. */
  logPath: z.string().optional(),
  cgroupsPath: z.string(),
  /** Proves to the monitor that a connection comes from this daemon. */
  cookie: z.string(),
})
export type ContainerRecord = z.infer<typeof ContainerRecord>

/** What request, image and rootfs together made of the container's process. */
const ContainerProcess = z.object({
  user: z.object({ uid: z.int(), gid: z.int(), supplementalGroups: z.array(z.int()) }),
  stopSignal: z.string(),
})
export type ContainerProcess = z.infer<typeof ContainerProcess>

/** The limits in force once they were updated; until then those of the request are. */
const updated = { resources: resourcesRecord.optional() }

const Exited = z.object({
  state: z.literal('exited'),
  ...updated,
  process: ContainerProcess.optional(),
  startedAt: bigintText.optional(),
  finishedAt: bigintText,
  exitCode: z.int(),
  /** "Completed", "Error", "OOMKilled", "StartError", "SeccompKilled", "MonitorLost" or "Unknown". */
  reason: z.string(),
  message: z.string(),
})

const ContainerStatus = z.discriminatedUnion('state', [
  z.object({ state: z.literal('creating') }),
  z.object({
    state: z.literal('created'),
    process: ContainerProcess,
    /** Absent as long as a container that is made from a checkpoint was not started: it has no process yet. */
    init: processIdentity.optional(),
    ...updated,
  }),
  z.object({
    state: z.literal('running'),
    ...updated,
    process: ContainerProcess,
    init: processIdentity,
    startedAt: bigintText,
  }),
  Exited,
])
export type ContainerStatus = z.infer<typeof ContainerStatus>
export type ExitedContainer = z.infer<typeof Exited>

export type Container = Stored<ContainerRecord, ContainerStatus>
export type ContainerStore = RecordStore<ContainerId, ContainerRecord, ContainerStatus>

export const containerCodec: RecordCodec<ContainerId, ContainerRecord, ContainerStatus> = {
  noun: 'container',
  parseId: (text) => ContainerId.safeParse(text).data,
  recordToJson: (record) => ({
    ...record,
    config: messageToText(ContainerConfig.encode(record.config).finish()),
    // For people who read the file; the daemon reads `config`.
    metadata: record.config.metadata,
  }),
  parseRecord: (json) => ContainerRecord.parse(json),
  parseStatus: (json) => ContainerStatus.parse(json),
  initial: { state: 'creating' },
  afterDamage: () => ({
    state: 'exited',
    finishedAt: nowNs(),
    exitCode: 255,
    reason: 'Unknown',
    message: 'its status on the disk was damaged',
  }),
  isVisible: ({ state }) => state !== 'creating',
}

/** Whether it may use anything but disk. */
export const isLive = ({ status }: Container): boolean => status.state === 'created' || status.state === 'running'

/** The transition from `created` by a start; nothing can have been started that has no process. */
export const running = (status: Extract<ContainerStatus, { state: 'created' }>, startedAt: bigint): ContainerStatus =>
  status.init ? { ...status, state: 'running', init: status.init, startedAt } : status

/** The limits in force, as the CRI names them. */
export function resourcesOf({ record, status }: Container): LinuxContainerResources | undefined {
  return ('resources' in status ? status.resources : undefined) ?? record.config.linux?.resources
}

/** As its root file system or as a volume. */
export const usesImage = ({ imageId, imageVolumes }: ContainerRecord, id: string): boolean =>
  imageId === id || imageVolumes.some((volume) => volume.imageId === id)

/** The key under which one attempt of one container of a sandbox is unique. */
export function containerKey(sandboxId: SandboxId, config: ContainerConfig): string {
  const { name = '', attempt = 0 } = config.metadata ?? {}
  return [sandboxId, name, attempt].map((part) => encodeURIComponent(part)).join('/')
}
