/** What a registry or a reference can get wrong: a clear error with the right code, nothing left behind. */

import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { gzipSync } from 'node:zlib'
import { status } from '@grpc/grpc-js'
import { failsWith } from './cri-client.ts'
import { useWorld } from './harness.ts'
import { imageSpec } from './image-spec.ts'
import { digestOf, makeImage, makeLayer, pushImage } from './oci-image.ts'
import { freePort } from './registry.ts'

describe('a pull', () => {
  const world = useWorld({ pulled: false })
  const pull = (image: string) => world.cri.images.pullImage({ image: imageSpec(image) })
  const noImages = async () => assert.deepEqual((await world.cri.images.listImages({})).images, [])

  it('of an image or tag that the registry does not know is NOT_FOUND', async () => {
    await assert.rejects(pull(`${world.registry.host}/nobody:1`), failsWith(status.NOT_FOUND, /nobody/))
    await assert.rejects(pull(`${world.registry.host}/busybox:nothing`), failsWith(status.NOT_FOUND, /nothing/))
    const digest = `sha256:${'0'.repeat(64)}`
    await assert.rejects(pull(`${world.registry.host}/busybox@${digest}`), failsWith(status.NOT_FOUND))
    await noImages()
  })

  it('of a reference that is none is INVALID_ARGUMENT', async () => {
    for (const name of [
      '',
      'UPPERCASE:1',
      'a b',
      `${world.registry.host}/x@sha256:short`,
      `${world.registry.host}/../x`,
    ]) {
      await assert.rejects(pull(name), failsWith(status.INVALID_ARGUMENT), `'${name}'`)
    }
    await noImages()
  })

  it('from a registry that nobody answers for is UNKNOWN with the prefix RegistryUnavailable', async () => {
    const image = `127.0.0.1:${await freePort()}/busybox:1`
    await assert.rejects(pull(image), failsWith(status.UNKNOWN, /^RegistryUnavailable: /))
    await noImages()
  })

  it('of a layer whose bytes are not those of its digest is FAILED_PRECONDITION, and works once they are', async () => {
    const blob = world.registry.blobPath(world.busybox.layers[1]?.digest ?? '')
    const right = await readFile(blob)
    const wrong = Buffer.from(right)
    wrong[wrong.length - 1] = (wrong[wrong.length - 1] ?? 0) ^ 255
    await writeFile(blob, wrong)
    await assert.rejects(pull(world.image), failsWith(status.FAILED_PRECONDITION, /sha256:/))
    await noImages()
    await writeFile(blob, right)
    await pull(world.image)
    await world.cri.images.removeImage({ image: imageSpec(world.image) })
  })

  it('of a manifest whose bytes are not those of its digest is FAILED_PRECONDITION', async () => {
    const { digest, bytes } = world.busybox.manifest
    const blob = world.registry.blobPath(digest)
    await writeFile(blob, bytes.toString().replace('schemaVersion":2', 'schemaVersion": 2'))
    await assert.rejects(pull(`${world.registry.host}/busybox@${digest}`), failsWith(status.FAILED_PRECONDITION))
    await writeFile(blob, bytes)
    await noImages()
  })

  it('of a layer that is no archive, is cut, or is not what the config says is FAILED_PRECONDITION', async () => {
    const good = await makeLayer([{ path: 'file', content: 'content' }])
    const layerOf = (bytes: Buffer, diffId = good.diffId) => ({ ...good, bytes, digest: digestOf(bytes), diffId })
    const noise = Buffer.alloc(2048, 'not a tar archive ')
    const broken = {
      'not-gzip': layerOf(Buffer.from('this is no gzip stream')),
      'cut-gzip': layerOf(good.bytes.subarray(0, good.bytes.length - 12)),
      'not-tar': layerOf(gzipSync(noise), digestOf(noise)),
      'other-diff-id': layerOf(good.bytes, digestOf(Buffer.from('other'))),
    }
    for (const [tag, layer] of Object.entries(broken)) {
      await pushImage(world.registry.url, 'broken', tag, makeImage([layer]))
      await assert.rejects(pull(`${world.registry.host}/broken:${tag}`), failsWith(status.FAILED_PRECONDITION), tag)
    }
    await noImages()
  })

  it('of an image for other machines only is FAILED_PRECONDITION', async () => {
    const image = makeImage([await makeLayer([{ path: 'file', content: 'x' }])])
    const index = image.index.bytes.toString().replace(/"architecture":"\w+"/, '"architecture":"s390x"')
    const foreign = { ...image, index: { ...image.index, bytes: Buffer.from(index) } }
    await pushImage(world.registry.url, 'foreign', '1', foreign)
    await assert.rejects(
      pull(`${world.registry.host}/foreign:1`),
      failsWith(status.FAILED_PRECONDITION, /s390x|platform/),
    )
    await noImages()
  })
})
