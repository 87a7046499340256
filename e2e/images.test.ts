/** Images as the kubelet handles them: pull by tag and digest, ask, list, count, remove. */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { useWorld } from './harness.ts'
import { imageSpec } from './image-spec.ts'
import { pushImage } from './oci-image.ts'
import { isPeer } from './peer.ts'

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

  it('counts the bytes of what it keeps', { skip: isPeer && 'containerd counts in the background' }, async () => {
    const { imageFilesystems } = await world.cri.images.imageFsInfo({})
    assert.ok((imageFilesystems[0]?.usedBytes?.value ?? 0n) > 1_000_000n)
  })

  it('removes an image with all its names, and again without complaint', async () => {
    const { image } = await world.cri.images.imageStatus({ image: imageSpec(world.image) })
    await world.cri.images.removeImage({ image: imageSpec(image?.id ?? '') })
    assert.deepEqual((await world.cri.images.listImages({})).images, [])
    await world.cri.images.removeImage({ image: imageSpec(world.image) })
  })
})
