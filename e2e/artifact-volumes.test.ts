/** Volumes made of OCI artifacts: pulled, listed, mounted and removed as images are, but nothing can run from them. */

import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import type { DeepPartial, Mount } from '#proto/generated/api.ts'
import { failsWith } from './cri-client.ts'
import { useWorld } from './harness.ts'
import { imageSpec } from './image-spec.ts'
import { pushArtifact } from './oci-artifact.ts'
import {
  containerConfig,
  containerStatus,
  createContainer,
  podConfig,
  readLog,
  removePod,
  startPod,
  untilExited,
} from './pods.ts'

describe('an artifact volume', () => {
  const world = useWorld()
  let artifact = ''
  let digest = ''

  const pull = async (): Promise<string> => (await world.cri.images.pullImage({ image: imageSpec(artifact) })).imageRef

  before(async () => {
    digest = await pushArtifact(world.registry.url, 'weights', '1', [
      { title: 'model.bin', content: 'weights\n' },
      { title: 'tokens/words.txt', content: 'words\n' },
    ])
    artifact = `${world.registry.host}/weights:1`
    assert.equal(await pull(), digest)
  })

  const volume = (rest: DeepPartial<Mount> = {}): DeepPartial<Mount> => ({
    containerPath: '/volume',
    image: imageSpec(artifact),
    readonly: true,
    ...rest,
  })

  it('shows its files, cannot be written to, gives no rights and runs nothing', async () => {
    const script =
      'cat /volume/model.bin /words /tokens/words.txt; touch /volume/x; ls -ln /volume/model.bin; grep volume /proc/mounts'
    const mounts = [
      volume(),
      volume({ containerPath: '/words', imageSubPath: 'tokens/words.txt' }),
      volume({ containerPath: '/tokens', imageSubPath: 'tokens' }),
    ]
    const sandbox = await podConfig(world.site, 'whole')
    const config = containerConfig('main', world.image, ['sh', '-c', script], { mounts })
    const pod = await startPod(world.cri, sandbox, config)
    await untilExited(world.cri, pod.containerId)
    const seen = (await readLog(pod.logPath)).map(({ content }) => content).join('\n')
    assert.match(seen, /^weights\nwords\nwords\n/)
    assert.match(seen, /Read-only file system/)
    assert.match(seen, /^-r--r--r-- +\d+ 0 +0 +8 /m)
    assert.match(seen, /overlay \/volume overlay ro,nosuid,nodev,noexec,/)
    await removePod(world.cri, pod.sandboxId)
    await world.assertNothingLeft()
  })

  it('of a path that is not there, or that may be written, is refused', async () => {
    const sandbox = await podConfig(world.site, 'bad')
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
    const attempt = (mount: DeepPartial<Mount>): Promise<unknown> => {
      const config = containerConfig('main', world.image, ['true'], { mounts: [mount] })
      return createContainer(world.cri, podSandboxId, sandbox, config)
    }
    for (const imageSubPath of ['missing', '..', 'tokens/../..', '/etc']) {
      const refused = failsWith(status.UNKNOWN, /^ImageVolumeMountFailed: /)
      await assert.rejects(attempt(volume({ imageSubPath })), refused, imageSubPath)
    }
    await assert.rejects(attempt(volume({ readonly: false })), failsWith(status.INVALID_ARGUMENT))
    await removePod(world.cri, podSandboxId)
    await world.assertNothingLeft()
  })

  it('is an image to those who list, but no container can be made from it', async () => {
    const { images } = await world.cri.images.listImages({})
    const listed = images.find(({ id }) => id === digest)
    assert.deepEqual([listed?.repoTags, listed?.size], [[artifact], 14n])
    const { image, info } = await world.cri.images.imageStatus({ image: imageSpec(artifact), verbose: true })
    assert.equal(image?.id, digest)
    assert.match(JSON.stringify(info), /application\/vnd\.example\.model/)
    const sandbox = await podConfig(world.site, 'from')
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
    const call = createContainer(world.cri, podSandboxId, sandbox, containerConfig('main', artifact, ['true']))
    await assert.rejects(call, failsWith(status.FAILED_PRECONDITION, /artifact/))
    await removePod(world.cri, podSandboxId)
    await world.assertNothingLeft()
  })

  it('keeps its artifact, says its digest, and survives the daemon', async () => {
    const sandbox = await podConfig(world.site, 'kept')
    const config = containerConfig('main', world.image, ['sleep', '1000'], { mounts: [volume()] })
    const { containerId, sandboxId } = await startPod(world.cri, sandbox, config)
    const remove = () => world.cri.images.removeImage({ image: imageSpec(artifact) })
    await assert.rejects(remove(), failsWith(status.FAILED_PRECONDITION, /in use/))
    await world.runtime.kill()
    await world.runtime.start()
    await assert.rejects(remove(), failsWith(status.FAILED_PRECONDITION, /in use/))
    assert.equal((await containerStatus(world.cri, containerId)).mounts[0]?.image?.imageRef, digest)
    const answer = await world.cri.runtime.execSync({ containerId, cmd: ['cat', '/volume/model.bin'] })
    assert.equal(Buffer.from(answer.stdout).toString(), 'weights\n')
    await removePod(world.cri, sandboxId)
    await world.assertNothingLeft()
    await remove()
    const { image } = await world.cri.images.imageStatus({ image: imageSpec(artifact) })
    assert.equal(image, undefined)
    assert.equal(await pull(), digest)
  })
})
