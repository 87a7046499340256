/** A sandbox in the words of the pod network. */
import { Protocol } from '#proto/generated/api.ts'
import type { PodAttachment } from '../network/pod-network.ts'
import type { SandboxPaths } from '../paths.ts'
import type { SandboxRecord } from './sandbox.ts'

export function attachment(record: SandboxRecord, paths: SandboxPaths): PodAttachment {
  const { config } = record
  return {
    sandboxId: record.id,
    name: config.metadata?.name ?? '',
    namespace: config.metadata?.namespace ?? '',
    uid: config.metadata?.uid ?? '',
    netnsPath: paths.pin('net'),
    annotations: config.annotations,
    ...(config.linux?.cgroupParent && { cgroupPath: config.linux.cgroupParent }),
    ...(config.dnsConfig && { dns: config.dnsConfig }),
    // A mapping without a host port only documents what the pod listens on.
    portMappings: config.portMappings
      .filter(({ hostPort }) => hostPort !== 0)
      .map(({ hostPort, containerPort, protocol, hostIp }) => ({
        hostPort,
        containerPort,
        protocol: protocolName(protocol),
        ...(hostIp && { hostIP: hostIp }),
      })),
  }
}

function protocolName(protocol: Protocol): 'tcp' | 'udp' | 'sctp' {
  switch (protocol) {
    case Protocol.UDP:
      return 'udp'
    case Protocol.SCTP:
      return 'sctp'
    default:
      return 'tcp'
  }
}
