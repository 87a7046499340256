/** Pulls and removals of one image at the same time: it is whole or not there, and everybody is served. */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import { allOk, cross, DUPLICATES, HEAD_STARTS, isOneOf, times } from './at-once.ts'
import { useWorld } from './harness.ts'
import { imageSpec } from './image-spec.ts'
import { isPeer } from './peer.ts'
import { containerConfig, podConfig, removeAllPods, startPod, untilExited } from './pods.ts'

describe('an image that many want', { skip: isPeer && 'ours' }, () => {
  const world = useWorld({ pulled: false })
  const pull = () => world.cri.images.pullImage({ image: imageSpec(world.image) })
  const remove = () => world.cri.images.removeImage({ image: imageSpec(world.image) })
  const found = async () => (await world.cri.images.imageStatus({ image: imageSpec(world.image) })).image

  /** What is listed can be run. */
  const runs = async (): Promise<void> => {
    const command = ['sh', '-c', 'exit 5']
    const pod = await startPod(
      world.cri,
      await podConfig(world.site, 'user'),
      containerConfig('c', world.image, command),
    )
    assert.equal((await untilExited(world.cri, pod.containerId)).exitCode, 5)
    await removeAllPods(world.cri)
  }

  it(`${DUPLICATES} × PullImage, then ${DUPLICATES} × RemoveImage: all are served`, async () => {
    const pulls = await times(pull)
    allOk(pulls)
    assert.equal(new Set(pulls.map((each) => each.ok && each.value.imageRef)).size, 1)
    await runs()
    allOk(await times(remove))
    assert.equal(await found(), undefined)
    assert.deepEqual((await world.cri.images.listImages({})).images, [])
  })

  it('PullImage with RemoveImage: whole or not there', async () => {
    for (const headStart of HEAD_STARTS) {
      for (const [earlier, later] of [
        [pull, remove],
        [remove, pull],
      ] as const) {
        const [first, second] = await cross(earlier, later, headStart)
        const [pulled, removed] = earlier === pull ? [first, second] : [second, first]
        allOk([removed])
        isOneOf(pulled, status.OK)
        if (await found()) await runs()
        await remove()
        assert.equal(await found(), undefined)
      }
    }
    await world.assertNothingLeft()
  })
})
