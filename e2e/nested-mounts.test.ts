/** Mounts that lie in other mounts of a container: the same is seen whoever makes their places, the daemon or the OCI runtime. */

import assert from 'node:assert/strict'
import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { after, afterEach, before, describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import type { DeepPartial, Mount } from '#proto/generated/api.ts'
import { failsWith } from './cri-client.ts'
import { crunProgram, crunSkip } from './crun.ts'
import { useWorld } from './harness.ts'
import { imageSpec } from './image-spec.ts'
import { see } from './see.ts'

const crun = crunSkip === false ? crunProgram() : undefined
/** The first is one whose mount points the daemon makes, if it is old; see `daemon/container/nested-mounts.ts`. */
const HANDLERS = crun ? ['runc', 'crun'] : ['runc']

describe('a mount in a mount', () => {
  const handlers = { runc: {}, ...(crun && { crun: { path: crun.path } }) }
  const world = useWorld({ config: { sections: { runtimes: { handlers } } } })
  let count = 0
  let outer = ''

  before(async () => {
    await mkdir(world.site.path('inner/deep'), { recursive: true })
    await writeFile(world.site.path('inner/file'), 'inner\n')
    await writeFile(world.site.path('inner/deep/file'), 'deep\n')
  })
  after(() => crun?.remove())
  afterEach(() => world.assertNothingLeft())

  /** A volume of its own for each container, as what is made in it stays. */
  const ask = async (handler: string, script: string, mounts: (outer: string) => DeepPartial<Mount>[]) => {
    outer = world.site.path(`outer-${++count}`)
    await mkdir(`${outer}/there`, { recursive: true })
    await symlink('there', `${outer}/link`)
    const { lines } = await see(world, { name: `nested-${count}`, handler, script, config: { mounts: mounts(outer) } })
    return lines.join(' ')
  }
  const inner = (containerPath: string, rest: DeepPartial<Mount> = {}): DeepPartial<Mount> => ({
    containerPath,
    hostPath: world.site.path('inner'),
    ...rest,
  })

  for (const handler of HANDLERS) {
    it(`is seen, and its place made where there is none (${handler})`, async () => {
      const script = 'cat /v/a/b/file /v/there/file /v/one; touch /v/a/b/deep/x 2>/dev/null || echo read-only; ls /v'
      const said = await ask(handler, script, (hostPath) => [
        { containerPath: '/v', hostPath },
        inner('/v/a/b', { readonly: true }),
        inner('/v/there'),
        inner('/v/one', { hostPath: world.site.path('inner/file') }),
      ])
      assert.equal(said, 'inner inner inner read-only a link one there')
    })

    it(`may hold a third one, and lie in a volume or image that is read-only (${handler})`, async () => {
      const said = await ask(
        handler,
        'cat /v/there/deep/file /i/home/file; touch /v/x 2>/dev/null || echo read-only',
        (hostPath) => [
          inner('/v/there/deep/deep', { hostPath: world.site.path('inner/deep') }),
          inner('/v/there'),
          { containerPath: '/v', hostPath, readonly: true },
          { containerPath: '/i', image: imageSpec(world.image), readonly: true },
          inner('/i/home'),
        ],
      )
      assert.equal(said, 'deep inner read-only')
    })

    it(`has no place in a read-only volume that lacks it (${handler})`, async () => {
      const mounts = (hostPath: string) => [{ containerPath: '/v', hostPath, readonly: true }, inner('/v/missing')]
      await assert.rejects(ask(handler, 'true', mounts), failsWith(status.FAILED_PRECONDITION))
    })
  }

  it('is not led astray by a link in the volume: refused, or made where it leads inside', async () => {
    const mounts = (hostPath: string) => [{ containerPath: '/v', hostPath }, inner('/v/link/made')]
    await ask('runc', 'true', mounts).catch(failsWith(status.FAILED_PRECONDITION))
  })
})
