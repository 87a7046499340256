/** What several parts of a container's spec depend on, found out once. */
import type { ContainerConfig } from '#proto/generated/api.ts'
import { type NamespaceModes, namespaceModes } from './namespaces.ts'
import { type NodeShare, nodeShare } from './node-options.ts'
import { invalid } from './refuse.ts'
import { type SelinuxLabels, selinuxLabels } from './selinux.ts'
import type { ContainerSpecInput } from './spec-input.ts'
import { type UserMappings, userMappings } from './user-namespace.ts'

export interface Context {
  readonly security: NonNullable<ContainerConfig['linux']>['securityContext']
  readonly privileged: boolean
  readonly readonlyRootfs: boolean
  readonly modes: NamespaceModes
  readonly mappings: UserMappings | undefined
  readonly share: NodeShare
}

/** Of a spec, with what the host could not do exactly as asked. */
export interface Part<T> {
  readonly value: T
  readonly warnings: readonly string[]
}

export const contextOf = (input: ContainerSpecInput): Context => {
  const { container, sandbox } = input
  const security = container.linux?.securityContext
  if (security?.privileged && !sandbox.linux?.securityContext?.privileged) {
    throw invalid('linux.security_context.privileged is set, but the sandbox is not privileged')
  }
  return {
    security,
    privileged: security?.privileged ?? false,
    readonlyRootfs: security?.readonlyRootfs ?? false,
    modes: namespaceModes(container, sandbox),
    mappings: userMappings(sandbox.linux?.securityContext?.namespaceOptions?.usernsOptions),
    share: nodeShare({ ...input, asked: input.annotations?.features ?? {}, node: input.node ?? {} }),
  }
}

export const labelsOf = (input: ContainerSpecInput, { security, modes }: Context): SelinuxLabels =>
  selinuxLabels({
    container: security,
    sandbox: input.sandbox.linux?.securityContext,
    host: input.host,
    podLevel: input.selinuxLevel,
    sharesNode: modes.pid === 'host' || modes.ipc === 'host',
  })
