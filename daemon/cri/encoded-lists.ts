/**
 * The lists of sandboxes and containers, unary, as the kubelet calls them every second, and streamed: each item is encoded once per
 * status.
 */
import {
  type ListContainersRequest,
  ListContainersResponse,
  type ListPodSandboxRequest,
  ListPodSandboxResponse,
  type StreamContainersRequest,
  type StreamPodSandboxesRequest,
} from '#proto/generated/api.ts'
import type { Container } from '../container/container.ts'
import { listContainers } from '../container/list-containers.ts'
import type { Parts } from '../parts.ts'
import { listSandboxes } from '../sandbox/list-sandboxes.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'
import { containerItem } from './container-messages.ts'
import { answerInChunks, wholeAnswer } from './encoded-answers.ts'
import type { Unary } from './rpc.ts'
import { sandboxItem } from './sandbox-messages.ts'
import type { Streaming } from './stream-rpc.ts'

/** The bytes of objects as list items, forgotten with the objects. */
class EncodedItems<T extends { readonly status: object }> {
  readonly #encode: (object: T) => Uint8Array
  readonly #known = new WeakMap<T, { readonly status: object; readonly bytes: Uint8Array }>()

  /** @param encode a response with this object as its only item; the items of both kinds of lists are field 1 */
  constructor(encode: (object: T) => Uint8Array) {
    this.#encode = encode
  }

  *of(objects: readonly T[]): Generator<Uint8Array> {
    for (const object of objects) yield this.#bytesOf(object)
  }

  #bytesOf(object: T): Uint8Array {
    const { status } = object
    const known = this.#known.get(object)
    if (known?.status === status) return known.bytes
    const bytes = this.#encode(object)
    this.#known.set(object, { status, bytes })
    return bytes
  }
}

/** The handlers of these four. */
export const encodedLists = (parts: Pick<Parts, 'containers' | 'sandboxes'>, unary: Unary, streaming: Streaming) => {
  const sandboxes = new EncodedItems<Sandbox>((sandbox) =>
    ListPodSandboxResponse.encode({ items: [sandboxItem(sandbox)] }).finish(),
  )
  const containers = new EncodedItems<Container>((container) =>
    ListContainersResponse.encode({ containers: [containerItem(container)] }).finish(),
  )
  return {
    listPodSandbox: unary(({ filter }: ListPodSandboxRequest) =>
      wholeAnswer(sandboxes.of(listSandboxes(parts, filter)), 'StreamPodSandboxes'),
    ),
    streamPodSandboxes: streaming(({ filter }: StreamPodSandboxesRequest) =>
      answerInChunks(sandboxes.of(listSandboxes(parts, filter))),
    ),
    listContainers: unary(({ filter }: ListContainersRequest) =>
      wholeAnswer(containers.of(listContainers(parts, filter)), 'StreamContainers'),
    ),
    streamContainers: streaming(({ filter }: StreamContainersRequest) =>
      answerInChunks(containers.of(listContainers(parts, filter))),
    ),
  }
}
