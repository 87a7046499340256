/**
 * ListPodSandbox and ListContainers, which the kubelet calls every second: each item is encoded once per status, and an answer
 * is these bytes one after the other, as protobuf has it for repeated fields.
 */
import {
  type ListContainersRequest,
  ListContainersResponse,
  type ListPodSandboxRequest,
  ListPodSandboxResponse,
  RuntimeServiceService,
} from '#proto/generated/api.ts'
import type { Container } from '../container/container.ts'
import { listContainers } from '../container/list-containers.ts'
import type { Parts } from '../parts.ts'
import { listSandboxes } from '../sandbox/list-sandboxes.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'
import { containerItem } from './container-messages.ts'
import type { Unary } from './rpc.ts'
import { sandboxItem } from './sandbox-messages.ts'

/** The bytes of objects as list items, forgotten with the objects. */
class EncodedItems<T extends { readonly status: object }> {
  readonly #encode: (object: T) => Uint8Array
  readonly #known = new WeakMap<T, { readonly status: object; readonly bytes: Uint8Array }>()

  /** @param encode a response with this object as its only item */
  constructor(encode: (object: T) => Uint8Array) {
    this.#encode = encode
  }

  response(objects: readonly T[]): Buffer {
    return Buffer.concat(objects.map((object) => this.#bytesOf(object)))
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

const asItIs = (bytes: Buffer): Buffer => bytes

/** The service as generated, but for the two responses that come encoded. */
export const runtimeDefinition = {
  ...RuntimeServiceService,
  listPodSandbox: { ...RuntimeServiceService.listPodSandbox, responseSerialize: asItIs },
  listContainers: { ...RuntimeServiceService.listContainers, responseSerialize: asItIs },
}

/** The handlers of these two. */
export const encodedLists = (parts: Pick<Parts, 'containers' | 'sandboxes'>, unary: Unary) => {
  const sandboxes = new EncodedItems<Sandbox>((sandbox) =>
    ListPodSandboxResponse.encode({ items: [sandboxItem(sandbox)] }).finish(),
  )
  const containers = new EncodedItems<Container>((container) =>
    ListContainersResponse.encode({ containers: [containerItem(container)] }).finish(),
  )
  return {
    listPodSandbox: unary(({ filter }: ListPodSandboxRequest) => sandboxes.response(listSandboxes(parts, filter))),
    listContainers: unary(({ filter }: ListContainersRequest) => containers.response(listContainers(parts, filter))),
  }
}
