/**
 * The RPC table of the runtime service: decode, one use case, encode. Lists are in `encoded-lists.ts`, statistics in
 * `stats-service.ts`. What is in none answers UNIMPLEMENTED by itself.
 */
import type { RuntimeServiceServer } from '#proto/generated/api.ts'
import { checkpointContainer } from '../checkpoint/checkpoint-container.ts'
import { createContainer } from '../container/create-container.ts'
import { execSync } from '../container/exec-sync.ts'
import { removeContainer } from '../container/remove-container.ts'
import { reopenLog } from '../container/reopen-log.ts'
import { startContainer } from '../container/start-container.ts'
import { stopContainer } from '../container/stop-container.ts'
import { updateResources } from '../container/update-resources.ts'
import { updatePodCidr } from '../network/config-template.ts'
import type { Parts } from '../parts.ts'
import { removeSandbox } from '../sandbox/remove-sandbox.ts'
import { runSandbox } from '../sandbox/run-sandbox.ts'
import { stopSandbox } from '../sandbox/stop-sandbox.ts'
import { updateSandboxResources } from '../sandbox/update-resources.ts'
import { runtimeStatus } from '../status/runtime-status.ts'
import { acceptAttach } from '../streaming/sessions/attach.ts'
import { acceptExec } from '../streaming/sessions/exec.ts'
import { acceptPortForward } from '../streaming/sessions/port-forward.ts'
import { API_VERSION, RUNTIME_NAME, VERSION } from '../version.ts'
import { containerInfo, containerStatus } from './container-messages.ts'
import { podStatuses } from './event-stream.ts'
import { cgroupDriver, required } from './messages.ts'
import type { Unary } from './rpc.ts'
import { sandboxInfo, sandboxStatus } from './sandbox-messages.ts'

/** The version of the runtime's own VersionRequest protocol that the kubelet has always been told. */
const VERSION_MESSAGE = '0.1.0'

export const runtimeService = (parts: Parts, unary: Unary): Partial<RuntimeServiceServer> => ({
  version: unary(() => ({
    version: VERSION_MESSAGE,
    runtimeName: RUNTIME_NAME,
    runtimeVersion: VERSION,
    runtimeApiVersion: API_VERSION,
  })),
  status: unary(({ verbose }) => runtimeStatus(parts, verbose)),
  updateRuntimeConfig: unary(async ({ runtimeConfig }) => {
    await updatePodCidr(parts, runtimeConfig?.networkConfig?.podCidr ?? '')
    return {}
  }),
  runtimeConfig: unary(() => ({ linux: { cgroupDriver: cgroupDriver(parts.config.cgroupDriver) } })),

  runPodSandbox: unary(async ({ config, runtimeHandler }, signal) => ({
    podSandboxId: await runSandbox(parts, config, runtimeHandler, signal),
  })),
  stopPodSandbox: unary(async ({ podSandboxId }, signal) => {
    await stopSandbox(parts, podSandboxId, signal)
    return {}
  }),
  removePodSandbox: unary(async ({ podSandboxId }, signal) => {
    await removeSandbox(parts, podSandboxId, signal)
    return {}
  }),
  podSandboxStatus: unary(({ podSandboxId, verbose }) => {
    const sandbox = parts.sandboxes.require(podSandboxId)
    const { status, info } = sandboxStatus(sandbox, verbose ? sandboxInfo(parts, sandbox) : {})
    // As in events, so that a kubelet can tell which of both is newer.
    return { status, info, containersStatuses: podStatuses(parts, sandbox), timestamp: parts.eventClock.now() }
  }),
  updatePodSandboxResources: unary(async ({ podSandboxId, overhead, resources }) => {
    await updateSandboxResources(parts, podSandboxId, { overhead, resources })
    return {}
  }),

  // The pod's configuration comes again with each container; what RunPodSandbox froze is what counts.
  createContainer: unary(async ({ podSandboxId, config }, signal) => ({
    containerId: await createContainer(parts, { sandbox: podSandboxId, config: required('config', config) }, signal),
  })),
  startContainer: unary(async ({ containerId }) => {
    await startContainer(parts, containerId)
    return {}
  }),
  stopContainer: unary(async ({ containerId, timeout }, signal) => {
    await stopContainer(parts, containerId, timeout, signal)
    return {}
  }),
  removeContainer: unary(async ({ containerId }, signal) => {
    await removeContainer(parts, containerId, signal)
    return {}
  }),
  containerStatus: unary(async ({ containerId, verbose }) => {
    const container = parts.containers.require(containerId)
    return containerStatus(container, verbose ? await containerInfo(parts, container) : {})
  }),
  updateContainerResources: unary(async ({ containerId, linux }, signal) => {
    await updateResources(parts, containerId, linux, signal)
    return {}
  }),
  reopenContainerLog: unary(async ({ containerId }) => {
    await reopenLog(parts, containerId)
    return {}
  }),
  checkpointContainer: unary(async ({ containerId, location, timeout }, signal) => {
    await checkpointContainer(parts, { container: containerId, location, timeoutSeconds: timeout }, signal)
    return {}
  }),
  exec: unary((request) => ({ url: parts.streaming.url(acceptExec(parts, request)) })),
  attach: unary((request) => ({ url: parts.streaming.url(acceptAttach(parts, request)) })),
  portForward: unary((request) => ({ url: parts.streaming.url(acceptPortForward(parts, request)) })),
  execSync: unary(({ containerId, cmd, timeout }, signal) => execSync(parts, containerId, cmd, timeout, signal)),
})
