/** Status: what the node can do, from memory; the kubelet asks every few seconds. */
import { StatusResponse } from '#proto/generated/api.ts'
import type { Parts } from '../parts.ts'
import { RUNTIME_NAME, VERSION } from '../version.ts'

type StatusNeeds = Pick<Parts, 'config' | 'handlers' | 'host' | 'network'>

/** RuntimeReady and NetworkReady as they are, and what each runtime handler offers ("" is the default one). */
export function runtimeStatus(needs: StatusNeeds, verbose: boolean): StatusResponse {
  const network = needs.network.ready()
  const runtime = needs.handlers.ready()
  return StatusResponse.fromPartial({
    status: {
      conditions: [
        condition('RuntimeReady', runtime, 'RuntimeNotUsable'),
        condition('NetworkReady', network, 'NetworkPluginNotReady'),
      ],
    },
    runtimeHandlers: needs.handlers.list().map(({ name, features }) => ({
      name,
      features: { recursiveReadOnlyMounts: features.recursiveReadOnlyMounts, userNamespaces: false },
    })),
    features: { supplementalGroupsPolicy: true, userNamespacesHostNetwork: false },
    info: verbose
      ? {
          config: JSON.stringify(needs.config),
          host: JSON.stringify(needs.host, (_key, value) => (value instanceof Map ? Object.fromEntries(value) : value)),
          version: JSON.stringify({ name: RUNTIME_NAME, version: VERSION }),
        }
      : {},
  })
}

type Readiness = { readonly ok: true } | { readonly ok: false; readonly reason: string }

const condition = (type: string, readiness: Readiness, reason: string) =>
  readiness.ok ? { type, status: true } : { type, status: false, reason, message: readiness.reason }
