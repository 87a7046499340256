/** Sandboxes as the CRI tells of them. */
import { type PodSandbox, PodSandboxState, PodSandboxStatusResponse } from '#proto/generated/api.ts'
import type { Parts } from '../parts.ts'
import type { Sandbox, SandboxStatus } from '../sandbox/sandbox.ts'
import { podResources } from '../sandbox/update-resources.ts'
import { verboseInfo } from './messages.ts'

const stateOf = (status: SandboxStatus): PodSandboxState =>
  status.state === 'ready' ? PodSandboxState.SANDBOX_READY : PodSandboxState.SANDBOX_NOTREADY

export function sandboxItem({ record, status }: Sandbox): PodSandbox {
  const { id, createdAt, runtimeHandler, config } = record
  const { metadata, labels, annotations } = config
  return { id, metadata, state: stateOf(status), createdAt, labels, annotations, runtimeHandler }
}

export function sandboxStatus(sandbox: Sandbox, info: { [key: string]: string }): PodSandboxStatusResponse {
  const { record, status } = sandbox
  const [ip = '', ...more] = status.state === 'ready' ? status.ips : []
  return PodSandboxStatusResponse.fromPartial({
    status: {
      ...sandboxItem(sandbox),
      network: { ip, additionalIps: more.map((address) => ({ ip: address })) },
      linux: { namespaces: { options: record.config.linux?.securityContext?.namespaceOptions ?? {} } },
    },
    info,
  })
}

export function sandboxInfo({ paths }: Pick<Parts, 'paths'>, sandbox: Sandbox): { [key: string]: string } {
  const { record, status } = sandbox
  const { dir, namespaces } = paths.sandbox(record.id)
  return verboseInfo({
    id: record.id,
    status,
    runtimeHandler: record.runtimeHandler,
    directory: dir,
    namespaces,
    pid: status.state === 'ready' ? (status.init?.pid ?? 0) : 0,
    ...podResources(sandbox),
    config: record.config,
  })
}
