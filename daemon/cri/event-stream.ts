/**
 * GetContainerEvents: each event with the whole of its pod, made and encoded in the tick in which the change was published, and only
 * when somebody listens.
 */
import { Metadata, type ServerWritableStream } from '@grpc/grpc-js'
import type { RuntimeError } from '#proto/errors.ts'
import {
  ContainerEventResponse,
  ContainerEventType,
  type ContainerStatus,
  type GetEventsRequest,
} from '#proto/generated/api.ts'
import { EventLog, type Subscriber } from '../events/event-log.ts'
import { containerEvents, type EventType, sandboxEvents } from '../events/lifecycle.ts'
import { containersOfPod } from '../events/pod-containers.ts'
import type { Parts } from '../parts.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'
import { containerStatus } from './container-messages.ts'
import { sandboxStatus } from './sandbox-messages.ts'
import { statusFromError } from './status-from-error.ts'

const RPC = 'GetContainerEvents'

const types: Record<EventType, ContainerEventType> = {
  created: ContainerEventType.CONTAINER_CREATED_EVENT,
  started: ContainerEventType.CONTAINER_STARTED_EVENT,
  stopped: ContainerEventType.CONTAINER_STOPPED_EVENT,
  deleted: ContainerEventType.CONTAINER_DELETED_EVENT,
}

type Needs = Pick<Parts, 'containers' | 'eventClock' | 'log' | 'sandboxes'>
type Call = ServerWritableStream<GetEventsRequest, Uint8Array>

export interface EventStream {
  readonly handlers: { readonly getContainerEvents: (call: Call) => void }
  /** Ends all streams: who listens must not keep the daemon from going. */
  close(): void
}

/** Follows the stores from now on. */
export function openEventStream(needs: Needs): EventStream {
  const events = new EventLog()
  const tell = (id: string, sandbox: Sandbox | undefined, what: readonly EventType[]): void => {
    if (!sandbox || !events.isHeard) return
    for (const type of what) events.append(encodeEvent(needs, id, sandbox, type))
  }
  needs.sandboxes.watch((change) => {
    const { object } = change
    tell(object.record.id, object, sandboxEvents(change))
  })
  needs.containers.watch((change) => {
    const { id, sandboxId } = change.object.record
    tell(id, needs.sandboxes.get(sandboxId), containerEvents(change))
  })
  return { handlers: { getContainerEvents: (call) => serve(needs, events, call) }, close: () => events.close() }
}

function encodeEvent(needs: Needs, id: string, sandbox: Sandbox, type: EventType): Uint8Array {
  return ContainerEventResponse.encode({
    containerId: id,
    containerEventType: types[type],
    createdAt: needs.eventClock.now(),
    podSandboxStatus: sandboxStatus(sandbox, {}).status,
    containersStatuses: podStatuses(needs, sandbox),
  }).finish()
}

/** Of every container of the pod. */
export const podStatuses = (needs: Pick<Parts, 'containers' | 'sandboxes'>, sandbox: Sandbox): ContainerStatus[] =>
  containersOfPod(needs, sandbox).flatMap((container) => containerStatus(container, {}).status ?? [])

function serve({ log }: Needs, events: EventLog, call: Call): void {
  const fail = (error: RuntimeError | unknown): void => {
    const failure = statusFromError(error, RPC, log)
    log.info(RPC, { outcome: `${failure.code}: ${failure.details}` })
    call.emit('error', failure)
  }
  let subscriber: Subscriber
  try {
    subscriber = events.subscribe({ write: (event) => call.write(event), fail })
  } catch (error) {
    fail(error)
    return
  }
  call.on('drain', () => events.resume(subscriber))
  for (const end of ['cancelled', 'close', 'error']) call.once(end, () => events.unsubscribe(subscriber))
  // From here on nothing is missed, and the client may know.
  call.sendMetadata(new Metadata())
}
