/** Volumes made of images: what a container sees of them, and what it takes to get rid of them. */

import assert from 'node:assert/strict'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { before, describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import type { DeepPartial, Mount } from '#proto/generated/api.ts'
import { failsWith } from './cri-client.ts'
import { useWorld } from './harness.ts'
import { imageSpec } from './image-spec.ts'
import { makeImage, makeLayer, pushImage } from './oci-image.ts'
import {
  containerConfig,
  containerStatus,
  createContainer,
  podConfig,
  readLog,
  removePod,
  startPod,
  until,
  untilExited,
} from './pods.ts'

describe('an image volume', () => {
  const world = useWorld()
  let image = ''
  let digest = ''

  before(async () => {
    const files = await makeLayer([
      { path: 'data/' },
      { path: 'data/model', content: 'weights\n' },
      { path: 'data/run', content: '#!/bin/sh\necho ran\n', mode: 0o755 },
      { path: 'current', symlinkTo: 'data' },
      { path: 'out', symlinkTo: '../../../../etc' },
      { path: 'absolute', symlinkTo: '/etc' },
    ])
    const upper = await makeLayer([{ path: 'data/more', content: 'more\n' }])
    await pushImage(world.registry.url, 'model', '1', makeImage([files, upper]))
    image = `${world.registry.host}/model:1`
    digest = (await world.cri.images.pullImage({ image: imageSpec(image) })).imageRef
  })

  const volume = (rest: DeepPartial<Mount> = {}): DeepPartial<Mount> => ({
    containerPath: '/volume',
    image: imageSpec(image),
    readonly: true,
    ...rest,
  })

  /** Runs a script beside these mounts and returns what it said. */
  const see = async (name: string, mounts: DeepPartial<Mount>[], script: string): Promise<string> => {
    const sandbox = await podConfig(world.site, name)
    const config = containerConfig('main', world.image, ['sh', '-c', script], { mounts })
    const pod = await startPod(world.cri, sandbox, config)
    await untilExited(world.cri, pod.containerId)
    const lines = (await readLog(pod.logPath)).map(({ content }) => content)
    await removePod(world.cri, pod.sandboxId)
    await world.assertNothingLeft()
    return lines.join('\n')
  }

  it('shows the files of all layers, cannot be written to and gives no rights', async () => {
    const script =
      'cat /volume/data/model /volume/data/more; touch /volume/x; /volume/data/run; grep volume /proc/mounts'
    const seen = await see('whole', [volume()], script)
    assert.match(seen, /^weights\nmore\n/)
    assert.match(seen, /Read-only file system/)
    assert.match(seen, /overlay \/volume overlay ro,nosuid,nodev,/)
    assert.match(seen, /^ran$/m)
  })

  it('shows a directory or a file of the image, also through a link within it', async () => {
    const mounts = [
      volume({ imageSubPath: 'data' }),
      volume({ containerPath: '/linked', imageSubPath: 'current' }),
      volume({ containerPath: '/one', imageSubPath: './data//model' }),
    ]
    assert.equal(
      await see('sub', mounts, 'ls /volume | tr "\\n" " "; cat /linked/model /one; touch /one'),
      ['model more run weights', 'weights', 'touch: /one: Read-only file system'].join('\n'),
    )
  })

  it('stands beside a volume of the node, whose sub path the kubelet repeats as one of an image', async () => {
    const source = world.site.path('volume', 'deep')
    await mkdir(source, { recursive: true })
    await writeFile(`${source}/file`, 'of the node\n')
    const mounts = [volume(), { containerPath: '/sub', hostPath: source, imageSubPath: 'deep' }]
    assert.equal(await see('beside', mounts, 'cat /sub/file'), 'of the node')
  })

  it('B15: of a path that is not there, or leads out of the image, fails as the kubelet knows it', async () => {
    const sandbox = await podConfig(world.site, 'bad-sub')
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
    for (const imageSubPath of [
      'missing',
      'data/model/x',
      '..',
      'data/../..',
      '/etc',
      'out',
      'absolute',
      'out/passwd',
    ]) {
      const config = containerConfig('main', world.image, ['true'], { mounts: [volume({ imageSubPath })] })
      await assert.rejects(
        createContainer(world.cri, podSandboxId, sandbox, config),
        failsWith(status.UNKNOWN, /^ImageVolumeMountFailed: /),
        imageSubPath,
      )
    }
    const unknown = containerConfig('main', world.image, ['true'], { mounts: [volume({ image: imageSpec('nobody') })] })
    const refused = failsWith(status.UNKNOWN, /^ImageVolumeMountFailed: .*nobody/)
    await assert.rejects(createContainer(world.cri, podSandboxId, sandbox, unknown), refused)
    const mounts: DeepPartial<Mount>[] = [
      volume({ readonly: false }),
      volume({ hostPath: '/etc' }),
      volume({ propagation: 1 }),
    ]
    for (const mount of mounts) {
      const config = containerConfig('main', world.image, ['true'], { mounts: [mount] })
      const call = createContainer(world.cri, podSandboxId, sandbox, config)
      await assert.rejects(call, failsWith(status.INVALID_ARGUMENT), JSON.stringify(mount))
    }
    await removePod(world.cri, podSandboxId)
    await world.assertNothingLeft()
  })

  it('keeps its image, says its digest, and survives the daemon', async () => {
    const sandbox = await podConfig(world.site, 'kept')
    const config = containerConfig('main', world.image, ['sleep', '1000'], { mounts: [volume()] })
    const { containerId, sandboxId } = await startPod(world.cri, sandbox, config)
    const [mount] = (await containerStatus(world.cri, containerId)).mounts
    assert.equal(mount?.image?.image, image)
    assert.equal(mount?.image?.imageRef, digest)
    const remove = () => world.cri.images.removeImage({ image: imageSpec(image) })
    await assert.rejects(remove(), failsWith(status.FAILED_PRECONDITION, /in use/))
    await world.runtime.kill()
    await world.runtime.start()
    await assert.rejects(remove(), failsWith(status.FAILED_PRECONDITION, /in use/))
    assert.equal((await containerStatus(world.cri, containerId)).mounts[0]?.image?.imageRef, digest)
    const answer = await world.cri.runtime.execSync({ containerId, cmd: ['cat', '/volume/data/model'] })
    assert.equal(Buffer.from(answer.stdout).toString(), 'weights\n')
    await world.cri.runtime.stopContainer({ containerId, timeout: 0n })
    await until('the volume of an ended container is unmounted', 5000, async () => {
      const isMounted = (await readFile('/proc/self/mounts', 'utf8')).includes(`${containerId}/volumes`)
      return isMounted ? undefined : true
    })
    await removePod(world.cri, sandboxId)
    await world.assertNothingLeft()
    await remove()
    await world.cri.images.pullImage({ image: imageSpec(image) })
  })
})
