/** What plugins can be asked: for each event its method and its messages. */
import type { BinaryWriter } from '@bufbuild/protobuf/wire'
import {
  ConfigureRequest,
  ConfigureResponse,
  CreateContainerRequest,
  CreateContainerResponse,
  Empty,
  Event,
  PostCreateContainerRequest,
  PostStartContainerRequest,
  PostUpdateContainerRequest,
  PostUpdatePodSandboxRequest,
  RemoveContainerRequest,
  RemovePodSandboxRequest,
  RunPodSandboxRequest,
  StartContainerRequest,
  StateChangeEvent,
  StopContainerRequest,
  StopContainerResponse,
  StopPodSandboxRequest,
  SynchronizeRequest,
  SynchronizeResponse,
  UpdateContainerRequest,
  UpdateContainerResponse,
  UpdatePodSandboxRequest,
  ValidateContainerAdjustmentRequest,
  ValidateContainerAdjustmentResponse,
} from '#proto/generated/nri.ts'

interface Codec<T> {
  encode(message: T): BinaryWriter
  decode(bytes: Uint8Array): T
}

export interface Method<Request, Answer> {
  readonly name: string
  readonly request: Codec<Request>
  readonly answer: Codec<Answer>
  /** Plugins are asked that subscribed to it; without one, all. */
  readonly event?: Event
  /** Plugins of older versions of the interface know it as a StateChange. */
  readonly isStateChange?: boolean
}

export interface EventMethod<Request, Answer> extends Method<Request, Answer> {
  readonly event: Event
}

const notice = <R>(name: string, event: Event, request: Codec<R>): EventMethod<R, Empty> => ({
  name,
  request,
  answer: Empty,
  event,
  isStateChange: true,
})

export const METHODS = {
  configure: { name: 'Configure', request: ConfigureRequest, answer: ConfigureResponse },
  synchronize: { name: 'Synchronize', request: SynchronizeRequest, answer: SynchronizeResponse },
  stateChange: { name: 'StateChange', request: StateChangeEvent, answer: Empty },
  runPod: notice('RunPodSandbox', Event.RUN_POD_SANDBOX, RunPodSandboxRequest),
  updatePod: {
    name: 'UpdatePodSandbox',
    request: UpdatePodSandboxRequest,
    answer: Empty,
    event: Event.UPDATE_POD_SANDBOX,
  },
  postUpdatePod: notice('PostUpdatePodSandbox', Event.POST_UPDATE_POD_SANDBOX, PostUpdatePodSandboxRequest),
  stopPod: notice('StopPodSandbox', Event.STOP_POD_SANDBOX, StopPodSandboxRequest),
  removePod: notice('RemovePodSandbox', Event.REMOVE_POD_SANDBOX, RemovePodSandboxRequest),
  create: {
    name: 'CreateContainer',
    request: CreateContainerRequest,
    answer: CreateContainerResponse,
    event: Event.CREATE_CONTAINER,
  },
  postCreate: notice('PostCreateContainer', Event.POST_CREATE_CONTAINER, PostCreateContainerRequest),
  start: notice('StartContainer', Event.START_CONTAINER, StartContainerRequest),
  postStart: notice('PostStartContainer', Event.POST_START_CONTAINER, PostStartContainerRequest),
  update: {
    name: 'UpdateContainer',
    request: UpdateContainerRequest,
    answer: UpdateContainerResponse,
    event: Event.UPDATE_CONTAINER,
  },
  postUpdate: notice('PostUpdateContainer', Event.POST_UPDATE_CONTAINER, PostUpdateContainerRequest),
  stop: {
    name: 'StopContainer',
    request: StopContainerRequest,
    answer: StopContainerResponse,
    event: Event.STOP_CONTAINER,
  },
  remove: notice('RemoveContainer', Event.REMOVE_CONTAINER, RemoveContainerRequest),
  validate: {
    name: 'ValidateContainerAdjustment',
    request: ValidateContainerAdjustmentRequest,
    answer: ValidateContainerAdjustmentResponse,
    event: Event.VALIDATE_CONTAINER_ADJUSTMENT,
  },
} as const

export const PLUGIN_SERVICE = 'nri.pkg.api.v1alpha1.Plugin'
export const RUNTIME_SERVICE = 'nri.pkg.api.v1alpha1.Runtime'

export const eventBit = (event: Event): number => 1 << (event - 1)

/** Every event there is. */
export const ALL_EVENTS = eventBit(Event.VALIDATE_CONTAINER_ADJUSTMENT) * 2 - 1
