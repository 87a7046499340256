/** The streaming list RPCs: the same answers as the unary ones, in chunks (api.proto, StreamPodSandboxes and its siblings). */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  ImageServiceService,
  ListContainersRequest,
  ListContainersResponse,
  ListImagesRequest,
  RuntimeServiceService,
  StreamContainersResponse,
  StreamImagesResponse,
  StreamPodSandboxesRequest,
  StreamPodSandboxesResponse,
} from '../proto/generated/api.ts'
import { useWorld } from './harness.ts'
import { containerConfig, podConfig, removePod, startPod } from './pods.ts'

describe('the streaming lists', () => {
  const world = useWorld()

  it('send nothing where there is nothing', async () => {
    assert.deepEqual(await world.cri.stream(RuntimeServiceService.streamPodSandboxes.path, Buffer.alloc(0)), [])
    assert.deepEqual(await world.cri.stream(RuntimeServiceService.streamContainers.path, Buffer.alloc(0)), [])
  })

  it('send what the unary lists answer, filters included', async () => {
    const pod = await podConfig(world.site, 'streamed')
    const { sandboxId } = await startPod(world.cri, pod, containerConfig('main', world.image, ['sleep', '1000']))
    const { items } = await world.cri.runtime.listPodSandbox({})
    const chunks = await world.cri.stream(RuntimeServiceService.streamPodSandboxes.path, Buffer.alloc(0))
    assert.deepEqual(
      chunks.flatMap((bytes) => StreamPodSandboxesResponse.decode(bytes).podSandboxes),
      items,
    )
    const { containers } = ListContainersResponse.create(await world.cri.runtime.listContainers({}))
    const all = Buffer.from(ListContainersRequest.encode({ filter: undefined }).finish())
    const streamed = await world.cri.stream(RuntimeServiceService.streamContainers.path, all)
    assert.deepEqual(
      streamed.flatMap((bytes) => StreamContainersResponse.decode(bytes).containers),
      containers,
    )
    const filter = { id: 'ffff', state: undefined, labelSelector: {} }
    const none = Buffer.from(StreamPodSandboxesRequest.encode({ filter }).finish())
    assert.deepEqual(await world.cri.stream(RuntimeServiceService.streamPodSandboxes.path, none), [])
    await removePod(world.cri, sandboxId)
  })

  it('send the images', async () => {
    const { images } = await world.cri.images.listImages({})
    const request = Buffer.from(ListImagesRequest.encode({ filter: undefined }).finish())
    const chunks = await world.cri.stream(ImageServiceService.streamImages.path, request)
    assert.deepEqual(
      chunks.flatMap((bytes) => StreamImagesResponse.decode(bytes).images),
      images,
    )
    assert.equal(images.length, 1)
  })
})
