/** What the pod network is told about a sandbox, and how that is put into the words of CNI. */

import * as z from 'zod'
import { RuntimeError } from '#proto/errors.ts'
import { podBandwidth } from './bandwidth.ts'
import type { PluginConfig } from './cni-config.ts'
import { claimsOf } from './host-ports/claim.ts'

/** The name of the pod's interface; the kubelet and everybody else expect this one. */
export const POD_INTERFACE = 'eth0'

export const PortMapping = z.object({
  hostPort: z.number().int(),
  containerPort: z.number().int(),
  protocol: z.enum(['tcp', 'udp', 'sctp']),
  hostIP: z.string().optional(),
})
export type PortMapping = z.infer<typeof PortMapping>

/** Everything about a sandbox that plugins may see. Kept on disk, as DEL must be given the same as ADD. */
export const PodAttachment = z.object({
  sandboxId: z.string(),
  name: z.string(),
  namespace: z.string(),
  uid: z.string(),
  /** The file at which the network namespace is pinned. */
  netnsPath: z.string(),
  portMappings: z.array(PortMapping).readonly(),
  hostname: z.string().optional(),
  annotations: z.record(z.string(), z.string()),
  /** The pod's cgroup, as the kubelet names it. */
  cgroupPath: z.string().optional(),
  dns: z
    .object({ servers: z.array(z.string()), searches: z.array(z.string()), options: z.array(z.string()) })
    .optional(),
})
export type PodAttachment = Readonly<z.infer<typeof PodAttachment>>

/** The value of CNI_ARGS. */
export const cniArgs = (pod: PodAttachment): string => {
  const args = {
    IgnoreUnknown: '1',
    K8S_POD_NAMESPACE: pod.namespace,
    K8S_POD_NAME: pod.name,
    K8S_POD_INFRA_CONTAINER_ID: pod.sandboxId,
    K8S_POD_UID: pod.uid,
  }
  for (const [key, value] of Object.entries(args)) {
    // CNI_ARGS knows no quoting: a name with these in it could add arguments of its own.
    if (/[;=\0]/.test(value))
      throw new RuntimeError('invalid-argument', `${key} must not contain ";" or "=": "${value}"`)
  }
  return Object.entries(args)
    .map(([key, value]) => `${key}=${value}`)
    .join(';')
}

/** What CNI allows as a container id; it is part of file names here as well. */
const SANDBOX_ID = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/

/**
 * Refuses what could not be told to a plugin, before anything is done with it.
 * @throws RuntimeError invalid-argument naming the field
 */
export const checkAttachment = (pod: PodAttachment): void => {
  if (!SANDBOX_ID.test(pod.sandboxId)) {
    throw new RuntimeError(
      'invalid-argument',
      `Sandbox id "${pod.sandboxId}" cannot be the container id of a CNI plugin`,
    )
  }
  cniArgs(pod)
  podBandwidth(pod.annotations)
  for (const mapping of pod.portMappings) if (mapping.hostPort !== 0) claimsOf(mapping)
}

type Capabilities = Record<string, unknown>

/**
 * All that can be offered, whether or not a plugin wants it. Not "ips" and "mac": nothing in a pod asks for them but its
 * annotations, and whoever may make a pod must not thereby choose its address. A plugin that allows it reads the annotations.
 */
const offered = (pod: PodAttachment): Capabilities => {
  const portMappings = pod.portMappings.filter(({ hostPort }) => hostPort > 0)
  const bandwidth = podBandwidth(pod.annotations)
  const annotations = Object.keys(pod.annotations).length > 0 ? pod.annotations : undefined
  return {
    ...(portMappings.length > 0 && { portMappings }),
    ...(bandwidth && { bandwidth }),
    ...(pod.dns && { dns: pod.dns }),
    ...(pod.cgroupPath && { cgroupPath: pod.cgroupPath }),
    ...(annotations && { 'io.kubernetes.cri.pod-annotations': annotations }),
  }
}

/** The runtimeConfig for one plugin: of all that is offered what the plugin declares as its capability. */
export const runtimeConfigFor = (pod: PodAttachment, plugin: PluginConfig): Capabilities | undefined => {
  const wanted = Object.entries(offered(pod)).filter(([name]) => plugin.capabilities?.[name] === true)
  return wanted.length > 0 ? Object.fromEntries(wanted) : undefined
}

/**
 * The mappings that the host ports of our own have to serve: none when a plugin of the network does it. All of them have
 * a host port.
 */
export const ownPortMappings = (
  { portMappings }: PodAttachment,
  plugins: readonly PluginConfig[],
): readonly PortMapping[] =>
  plugins.some(({ capabilities }) => capabilities?.portMappings === true)
    ? []
    : portMappings.filter(({ hostPort }) => hostPort > 0)

/** Plugins that pass the result on unchanged when their capability is not used, and the settings that are a use too. */
const IDLE_WITHOUT: Record<string, { capability: string; settings: string[] }> = {
  portmap: { capability: 'portMappings', settings: [] },
  bandwidth: { capability: 'bandwidth', settings: ['ingressRate', 'ingressBurst', 'egressRate', 'egressBurst'] },
}

/**
 * Whether running this plugin for this pod would do nothing, by its documentation: nearly every cluster chains portmap
 * and bandwidth, hardly any pod uses them, and each is a process at every start and stop of a pod.
 */
export const isIdle = (pod: PodAttachment, plugin: PluginConfig): boolean => {
  const rule = IDLE_WITHOUT[plugin.type]
  if (rule === undefined || plugin.capabilities?.[rule.capability] !== true) return false
  if (rule.settings.some((key) => plugin[key] !== undefined)) return false
  return offered(pod)[rule.capability] === undefined
}
