/** `cricket image load`: images that come as files, made by skopeo where the host has it, and run at once. */

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { rm, stat, writeFile } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import { CRICKET } from './cricket.ts'
import { useWorld } from './harness.ts'
import { imageSpec } from './image-spec.ts'
import { writeLayout } from './oci-image.ts'
import { containerConfig, podConfig, readLog, removePod, startPod, untilExited } from './pods.ts'

const run = promisify(execFile)
const hasSkopeo = existsSync('/usr/bin/skopeo')

describe('cricket image load', () => {
  const world = useWorld({ pulled: false })

  const load = async (...args: string[]): Promise<string> => {
    const config = ['--config', world.site.path('config.yaml')]
    return (await run(CRICKET, ['image', 'load', ...args, ...config])).stdout
  }
  const says = async (attempt: Promise<unknown>): Promise<{ code: unknown; stderr: string }> => {
    const failure: unknown = await attempt.then(
      () => assert.fail('it did not fail'),
      (error: unknown) => error,
    )
    assert.ok(failure instanceof Error && 'code' in failure && 'stderr' in failure)
    return { code: failure.code, stderr: String(failure.stderr) }
  }
  const remove = () => world.cri.images.removeImage({ image: imageSpec(world.busybox.config.digest) })

  const forms = ['docker-archive', 'oci-archive'] as const
  for (const form of forms) {
    it(`brings what skopeo writes as ${form}, also compressed, and the kubelet sees it at once`, {
      skip: !hasSkopeo && 'host lacks skopeo',
    }, async () => {
      const file = world.site.path(`${form}.tar`)
      const name = 'registry.example/team/busybox:7'
      const copy = ['copy', '--quiet', '--src-tls-verify=false']
      await run('/usr/bin/skopeo', ['--insecure-policy', ...copy, `docker://${world.image}`, `${form}:${file}:${name}`])
      const id = world.busybox.config.digest
      assert.equal(await load(file), `${id}  ${name}\n`)
      const { image } = await world.cri.images.imageStatus({ image: imageSpec(name) })
      assert.deepEqual([image?.id, image?.repoTags, image?.pinned], [id, [name], false])
      assert.ok(image && image.size > 0n)

      const config = containerConfig('main', name, ['cat', '/greeting'])
      const pod = await startPod(world.cri, await podConfig(world.site, form), config)
      assert.equal((await untilExited(world.cri, pod.containerId)).exitCode, 0)
      assert.match((await readLog(pod.logPath)).map(({ content }) => content).join(), /hello from the second layer/)
      await removePod(world.cri, pod.sandboxId)
      await remove()

      await run('gzip', [file])
      assert.equal(await load(`${file}.gz`, '--pin'), `${id}  ${name}\n`)
      assert.equal((await world.cri.images.listImages({})).images[0]?.pinned, true)
      await remove()
      await world.assertNothingLeft()
    })
  }

  it('takes a directory, and a name for what has none, but no second name', async () => {
    const dir = world.site.path('layout')
    await writeLayout(dir, { 'a.example/app:1': world.busybox })
    assert.match(await load(dir), /^sha256:\S+ {2}a\.example\/app:1\n$/)
    const refused = await says(load(dir, '--name', 'b.example/app:1'))
    assert.deepEqual([refused.code, /names its images itself: a\.example\/app:1/.test(refused.stderr)], [2, true])
    await remove()
  })

  it('says what is wrong with a file, and that it needs a daemon', async () => {
    const file = world.site.path('nonsense.tar')
    await writeFile(file, 'x'.repeat(4096))
    const nonsense = await says(load(file))
    assert.equal(nonsense.code, 1)
    assert.match(nonsense.stderr, /^cricket: /)
    assert.match((await says(load(world.site.path('gone')))).stderr, /no file or directory/)
    assert.equal((await says(run(CRICKET, ['image', 'load']))).code, 2)
    assert.deepEqual((await world.cri.images.listImages({})).images, [])
    const socket = await stat(world.site.path('state/load.sock'))
    assert.equal(socket.mode & 0o007, 0, 'others may not connect')
    await world.runtime.stop()
    assert.match((await says(load(file))).stderr, /No daemon answers/)
    await world.runtime.start()
    await rm(file)
  })
})
