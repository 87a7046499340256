/** Status: what the node can do, from memory; the kubelet asks every few seconds. */
import { access, constants } from 'node:fs/promises'
import { StatusResponse } from '#proto/generated/api.ts'
import type { RuntimeHandler } from '../oci/runtime-handlers.ts'
import type { Parts } from '../parts.ts'
import { offersUserNamespaces } from '../sandbox/user-namespaces.ts'
import { RUNTIME_NAME, VERSION } from '../version.ts'

type StatusNeeds = Pick<
  Parts,
  'config' | 'eventLoopLag' | 'handlers' | 'host' | 'images' | 'network' | 'operations' | 'storage' | 'swept'
>

/** RuntimeReady and NetworkReady as they are, and what each runtime handler offers ("" is the default one). */
export async function runtimeStatus(needs: StatusNeeds, verbose: boolean): Promise<StatusResponse> {
  const network = needs.network.ready()
  const runtime = await runtimeReady(needs.handlers.offered(''))
  return StatusResponse.fromPartial({
    status: {
      conditions: [
        condition('RuntimeReady', runtime, 'RuntimeNotUsable'),
        condition('NetworkReady', network, 'NetworkPluginNotReady'),
      ],
    },
    runtimeHandlers: [{ ...needs.handlers.offered(''), name: '' }, ...needs.handlers.list()].map((handler) =>
      handlerMessage(needs, handler),
    ),
    features: {
      supplementalGroupsPolicy: true,
      userNamespacesHostNetwork: offersUserNamespaces(needs, needs.handlers.offered('')),
    },
    info: verbose
      ? {
          operations: JSON.stringify([...needs.operations.list(), ...needs.images.operations()]),
          registries: JSON.stringify(needs.images.registriesState()),
          healing: JSON.stringify(healing(needs)),
          eventLoop: JSON.stringify(needs.eventLoopLag.read()),
          signaturePolicies: JSON.stringify({ problems: needs.images.policyProblems() }),
          networkDebts: JSON.stringify(needs.network.debts()),
          config: JSON.stringify(needs.config),
          host: JSON.stringify(needs.host, (_key, value) => (value instanceof Map ? Object.fromEntries(value) : value)),
          version: JSON.stringify({ name: RUNTIME_NAME, version: VERSION }),
        }
      : {},
  })
}

/** What was found damaged, half-made or nobody's since the start, and went. */
const healing = ({ images, storage, swept }: StatusNeeds) => ({
  ...storage.counters(),
  sweptDirectories: swept.directories,
  sweptRootfs: swept.rootfs,
  incompleteImages: images.incomplete().map(({ image }) => image.repoTags[0] ?? image.id),
})

const handlerMessage = (needs: StatusNeeds, handler: RuntimeHandler) => ({
  name: handler.name,
  features: {
    recursiveReadOnlyMounts: handler.features.recursiveReadOnlyMounts,
    userNamespaces: offersUserNamespaces(needs, handler),
  },
})

async function runtimeReady({ name, path }: RuntimeHandler): Promise<Readiness> {
  try {
    await access(path, constants.X_OK)
    return { ok: true }
  } catch {
    return { ok: false, reason: `The program "${path}" of runtime handler "${name}" cannot be run` }
  }
}

type Readiness = { readonly ok: true } | { readonly ok: false; readonly reason: string }

const condition = (type: string, readiness: Readiness, reason: string) =>
  readiness.ok ? { type, status: true } : { type, status: false, reason, message: readiness.reason }
