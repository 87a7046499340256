/** Images as the kubelet handles them: pull by tag and digest, ask, list, count, remove. */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import { failsWith } from './cri-client.ts'
import { useWorld } from './harness.ts'
import { imageSpec } from './image-spec.ts'
import { pushImage } from './oci-image.ts'
import { isPeer } from './peer.ts'
import { containerConfig, podConfig, removePod, startPod } from './pods.ts'

describe('images', () => {
  const world = useWorld({ pulled: false })

  it('pulls by tag through an index, and knows the image by every name', async () => {
    const { imageRef } = await world.cri.images.pullImage({ image: imageSpec(world.image) })
    const byTag = await world.cri.images.imageStatus({ image: imageSpec(world.image) })
    const image = byTag.image
    assert.equal(image?.id, world.busybox.config.digest)
    assert.deepEqual(image?.repoTags, [world.image])
    assert.ok((image?.size ?? 0n) > 0n)
    for (const name of [imageRef, image?.id ?? '', image?.repoDigests[0] ?? '']) {
      const found = await world.cri.images.imageStatus({ image: imageSpec(name) })
      assert.equal(found.image?.id, image?.id, `by '${name}'`)
    }
    const { images } = await world.cri.images.listImages({})
    assert.deepEqual(
      images.map(({ id }) => id),
      [image?.id],
    )
  })

  it('pulls a bare manifest, and by digest', async () => {
    await pushImage(world.registry.url, 'plain', 'x', world.busybox, { as: 'manifest' })
    const byTag = `${world.registry.host}/plain:x`
    const byDigest = `${world.registry.host}/plain@${world.busybox.manifest.digest}`
    for (const name of [byTag, byDigest]) {
      await world.cri.images.pullImage({ image: imageSpec(name) })
      const { image } = await world.cri.images.imageStatus({ image: imageSpec(name) })
      assert.equal(image?.id, world.busybox.config.digest)
    }
    const { image } = await world.cri.images.imageStatus({ image: imageSpec(byTag) })
    assert.ok(image?.repoTags.includes(byTag))
    assert.ok(image?.repoDigests.includes(byDigest))
  })

  it('says that an unknown image is not there by an empty answer', async () => {
    const answer = await world.cri.images.imageStatus({ image: imageSpec(`${world.registry.host}/nobody:1`) })
    assert.equal(answer.image, undefined)
  })

  it('lists what a filter names, by whatever name, and nothing for a name that nobody has', async () => {
    const named = async (name: string): Promise<string[]> => {
      const { images } = await world.cri.images.listImages({ filter: { image: imageSpec(name) } })
      return images.map(({ id }) => id)
    }
    const id = world.busybox.config.digest
    for (const name of [world.image, `${world.registry.host}/plain:x`, id]) assert.deepEqual(await named(name), [id])
    assert.deepEqual(await named(`${world.registry.host}/nobody:1`), [])
  })

  it('tells the configuration of an image only when asked for everything', async () => {
    const { info: brief } = await world.cri.images.imageStatus({ image: imageSpec(world.image) })
    assert.deepEqual(brief, {})
    const { info } = await world.cri.images.imageStatus({ image: imageSpec(world.image), verbose: true })
    const told: { imageSpec: { config: object } } = JSON.parse(info.info ?? '{}')
    assert.ok(told.imageSpec.config)
  })

  it('refuses to remove an image that a container needs', { skip: isPeer && 'containerd removes it' }, async () => {
    const container = containerConfig('main', world.image, ['sleep', '1000'])
    const pod = await startPod(world.cri, await podConfig(world.site, 'user'), container)
    const remove = () => world.cri.images.removeImage({ image: imageSpec(world.image) })
    await assert.rejects(remove(), failsWith(status.FAILED_PRECONDITION, /in use/))
    // An ended container needs it, too, as long as it is there: it may be looked at, and its writable layer stands on it.
    await world.cri.runtime.stopContainer({ containerId: pod.containerId, timeout: 0n })
    await assert.rejects(remove(), failsWith(status.FAILED_PRECONDITION, /in use/))
    await removePod(world.cri, pod.sandboxId)
    const { image } = await world.cri.images.imageStatus({ image: imageSpec(world.image) })
    assert.ok((image?.repoTags.length ?? 0) > 1, 'nothing was taken from it meanwhile')
  })

  it('are in use for a kubelet that knows images by their runtime handler, too (RuntimeClassInImageCriApi)', {
    skip: isPeer && 'containerd of Debian does not know it',
  }, async () => {
    // As that kubelet asks: the handler of the pod's class goes with every image, "" for pods without a class.
    const handled = (image: string, runtimeHandler: string) => ({ ...imageSpec(image), runtimeHandler })
    // And as it counts (image_gc_manager.go): what no container names by id and handler may go.
    const key = (id: string, handler = '') => (handler === '' ? id : `${id},${handler}`)
    const pods: string[] = []
    for (const handler of ['', 'runc', 'gone']) {
      const { imageRef } = await world.cri.images.pullImage({ image: handled(world.image, handler) })
      assert.equal(imageRef, world.busybox.config.digest)
      const { image } = await world.cri.images.imageStatus({ image: handled(imageRef, handler) })
      assert.equal(image?.id, imageRef)
      const container = containerConfig('main', world.image, ['sleep', '1000'], { image: handled(imageRef, handler) })
      pods.push((await startPod(world.cri, await podConfig(world.site, `class-${handler}`), container)).sandboxId)
    }
    const { images } = await world.cri.images.listImages({})
    assert.equal(images.length, 1, 'an image is there once, for all handlers')
    const { containers } = await world.cri.runtime.listContainers({})
    assert.equal(containers.length, pods.length)
    const used = new Set(containers.map(({ imageId, image }) => key(imageId, image?.runtimeHandler)))
    assert.deepEqual([...used], [key(images[0]?.id ?? '', images[0]?.spec?.runtimeHandler)])
    for (const { id } of containers) {
      const { status: found } = await world.cri.runtime.containerStatus({ containerId: id })
      assert.ok(used.has(key(found?.imageId ?? '', found?.image?.runtimeHandler)))
    }
    for (const pod of pods) await removePod(world.cri, pod)
  })

  it('counts the bytes of what it keeps', { skip: isPeer && 'containerd counts in the background' }, async () => {
    const { imageFilesystems } = await world.cri.images.imageFsInfo({})
    assert.ok((imageFilesystems[0]?.usedBytes?.value ?? 0n) > 1_000_000n)
  })

  it('removes an image with all its names, and again without complaint', async () => {
    const names = [`${world.registry.host}/plain:x`, world.busybox.config.digest]
    for (const name of names) {
      await world.cri.images.pullImage({ image: imageSpec(world.image) })
      await world.cri.images.removeImage({ image: imageSpec(name) })
      assert.deepEqual((await world.cri.images.listImages({})).images, [], `by '${name}'`)
    }
    await world.cri.images.removeImage({ image: imageSpec(world.image) })
  })
})
