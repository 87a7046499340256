/**
 * A pod sandbox: what RunPodSandbox froze, and its life.
 *
 *              RunPodSandbox                       StopPodSandbox            RemovePodSandbox
 *   (nothing) ───────────────► creating ──► ready ────────────────► stopped ─────────────────► (forgotten)
 *                                 │           │  init gone, reboot     ▲
 *                                 │           └────────────────────────┘
 *                                 └─ failed, or the daemon died: undone, never listed
 *
 * `ready` is SANDBOX_READY; `stopped` is SANDBOX_NOTREADY, with `released` once its network is given back.
 */
import * as z from 'zod'
import type { IdMap } from '#linux/user-namespace.ts'
import { NamespaceMode, PodSandboxConfig } from '#proto/generated/api.ts'
import { SandboxId } from '../ids.ts'
import { resourcesRecord } from '../oci/resources-record.ts'
import { RuntimeUsed } from '../oci/runtime-handlers.ts'
import { idMapOf, userMappings } from '../oci/spec/user-namespace.ts'
import type { RecordCodec, RecordStore } from '../records/record-store.ts'
import { bigintText, messageText, messageToText, processIdentity } from '../records/schema.ts'
import type { Stored } from '../records/stored.ts'

const SandboxRecord = z.object({
  version: z.literal(1),
  id: SandboxId,
  /** Names the pod attempt; unique among sandboxes that are not removed. */
  key: z.string(),
  createdAt: bigintText,
  /** As in the request: empty for the default handler of the time. */
  runtimeHandler: z.string(),
  /** Absent in records of the first versions. */
  runtime: RuntimeUsed.optional(),
  /** The boot it was made in: after another one none of its processes, namespaces and mounts exist. */
  bootId: z.string(),
  /** Proves to the monitor of the init process that a connection comes from this daemon. */
  cookie: z.string(),
  config: messageText(PodSandboxConfig.decode),
  /** On a host with SELinux: what sets this pod's files and processes apart from those of others. */
  selinuxLevel: z.string().optional(),
})
export type SandboxRecord = z.infer<typeof SandboxRecord>

const SandboxStatus = z.discriminatedUnion('state', [
  z.object({ state: z.literal('creating') }),
  z.object({
    state: z.literal('ready'),
    ips: z.array(z.string()),
    init: processIdentity.optional(),
    /** Once they were updated; until then those of the request are in force. */
    overhead: resourcesRecord.optional(),
    resources: resourcesRecord.optional(),
  }),
  z.object({ state: z.literal('stopped'), released: z.boolean() }),
])
export type SandboxStatus = z.infer<typeof SandboxStatus>

export type Sandbox = Stored<SandboxRecord, SandboxStatus>
export type SandboxStore = RecordStore<SandboxId, SandboxRecord, SandboxStatus>

export const sandboxCodec: RecordCodec<SandboxId, SandboxRecord, SandboxStatus> = {
  noun: 'sandbox',
  parseId: (text) => SandboxId.safeParse(text).data,
  recordToJson: (record) => ({
    ...record,
    config: messageToText(PodSandboxConfig.encode(record.config).finish()),
    // For people who read the file; the daemon reads `config`.
    metadata: record.config.metadata,
  }),
  parseRecord: (json) => SandboxRecord.parse(json),
  parseStatus: (json) => SandboxStatus.parse(json),
  initial: { state: 'creating' },
  afterDamage: () => ({ state: 'stopped', released: false }),
  isVisible: ({ state }) => state !== 'creating',
}

/** The key under which one attempt of one pod is unique. */
export function sandboxKey(config: PodSandboxConfig): string {
  const { name = '', namespace = '', uid = '', attempt = 0 } = config.metadata ?? {}
  return [namespace, name, uid, attempt].map((part) => encodeURIComponent(part)).join('/')
}

/** Which ids of the host the pod's ids are; undefined for a pod in the node's user namespace. @throws RuntimeError */
export function podIdMap(config: PodSandboxConfig): IdMap | undefined {
  const mappings = userMappings(config.linux?.securityContext?.namespaceOptions?.usernsOptions)
  return mappings && idMapOf(mappings)
}

/** Which namespaces of its own a pod asks for. */
export interface PodNamespaces {
  readonly hostNetwork: boolean
  readonly hostIpc: boolean
  readonly hostPid: boolean
  /** One PID namespace for the whole pod, held by an init process. */
  readonly sharedPid: boolean
}

export function podNamespaces(config: PodSandboxConfig): PodNamespaces {
  const options = config.linux?.securityContext?.namespaceOptions
  return {
    hostNetwork: options?.network === NamespaceMode.NODE,
    hostIpc: options?.ipc === NamespaceMode.NODE,
    hostPid: options?.pid === NamespaceMode.NODE,
    sharedPid: (options?.pid ?? NamespaceMode.POD) === NamespaceMode.POD,
  }
}
