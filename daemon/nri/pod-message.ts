/** A pod as plugins are told of it. */
import { PodSandbox } from '#proto/generated/nri.ts'
import type { Paths, PinnedNamespace } from '../paths.ts'
import { podIdMap, podNamespaces, type Sandbox } from '../sandbox/sandbox.ts'
import { podResources } from '../sandbox/update-resources.ts'
import { fromCri } from './resource-message.ts'

/** @param ips known before the pod is ready */
export function podMessage(sandbox: Sandbox, paths: Paths, ips?: readonly string[]): PodSandbox {
  const { record, status } = sandbox
  const { metadata, labels, annotations, linux } = record.config
  const { overhead, resources } = podResources(sandbox)
  return PodSandbox.create({
    id: record.id,
    name: metadata?.name ?? '',
    uid: metadata?.uid ?? '',
    namespace: metadata?.namespace ?? '',
    labels,
    annotations,
    runtimeHandler: record.runtimeHandler,
    linux: {
      podOverhead: overhead && fromCri(overhead),
      podResources: resources && fromCri(resources),
      cgroupParent: linux?.cgroupParent ?? '',
      namespaces: namespaces(sandbox, paths),
      resources: resources && fromCri(resources),
    },
    ips: [...(ips ?? (status.state === 'ready' ? status.ips : []))],
  })
}

function namespaces({ record, status }: Sandbox, paths: Paths) {
  if (status.state === 'stopped' && status.released) return []
  const { hostNetwork, hostIpc, sharedPid } = podNamespaces(record.config)
  const { pin } = paths.sandbox(record.id)
  const own: (readonly [string, PinnedNamespace, boolean])[] = [
    ['network', 'net', !hostNetwork],
    ['ipc', 'ipc', !hostIpc],
    ['uts', 'uts', !hostNetwork],
    ['pid', 'pid', sharedPid],
    ['user', 'user', podIdMap(record.config) !== undefined],
  ]
  return own.flatMap(([type, file, isOwn]) => (isOwn ? [{ type, path: pin(file) }] : []))
}
