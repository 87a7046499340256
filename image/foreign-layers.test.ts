import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { buildImage, buildLayer } from './testing/image-builder.ts'
import { TestRegistry } from './testing/registry.ts'
import { TestImages } from './testing/test-images.ts'

const types = [
  'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
  'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
]

for (const mediaType of types) {
  test(`a layer of type ${mediaType} comes from the registry, and never from where the image says`, async () => {
    const asked: string[] = []
    const elsewhere = createServer((request, response) => {
      asked.push(request.url ?? '')
      response.end()
    })
    await new Promise<void>((resolve) => elsewhere.listen(0, '127.0.0.1', resolve))
    try {
      const { port } = elsewhere.address() as AddressInfo
      await using registry = await TestRegistry.start()
      await using here = await TestImages.open()
      const layer = await buildLayer({ a: 'content' })
      const image = buildImage({
        dialect: mediaType.includes('docker') ? 'docker' : 'oci',
        layers: [layer],
        alter: (manifest) => ({
          ...manifest,
          layers: [
            { mediaType, digest: layer.digest, size: layer.bytes.length, urls: [`http://127.0.0.1:${port}/layer`] },
          ],
        }),
      })
      registry.add('foreign', image, 'v1')
      const pull = () => here.images.pull({ reference: `${registry.host}/foreign:v1` })
      registry.misbehave({ path: layer.digest, times: 1, misdeed: { do: 'answer', status: 404 } })
      await assert.rejects(pull(), (error) => isKind(error, 'not-found'))
      assert.equal((await pull()).id, image.id)
      assert.deepEqual(asked, [])
    } finally {
      elsewhere.close()
    }
  })
}
