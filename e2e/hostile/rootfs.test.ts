/** Images whose directories lead to the host (B1, B4, B7), and what is left in a container's directory (B13). Rules: `attack.ts`. */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { LayerEntry } from '../oci-image.ts'
import { containerConfig, createContainer, podConfig, removePod } from '../pods.ts'
import { FAILED_PRECONDITION, refused, security, useAttacks } from './attack.ts'

describe('hostile rootfs:', () => {
  const attacks = useAttacks()
  const { attempt, image, world } = attacks

  it('B1: an /etc that leads to the host changes nothing there', async () => {
    const etcs: LayerEntry[] = [
      { path: 'etc', symlinkTo: attacks.canary.dir },
      { path: 'etc', symlinkTo: `../../../../../../../..${attacks.canary.dir}` },
      { path: 'etc', content: 'a file' },
      { path: 'etc', node: 'fifo' },
      { path: 'etc', symlinkTo: 'etc' },
    ]
    for (const etc of etcs) {
      await attempt({
        image: await image([etc]),
        config: security({ runAsUser: { value: 4321n } }),
      })
      attacks.canary.assertUnharmed()
    }
  })

  it('B4: a working directory behind a link is made in the image', async () => {
    const link = { path: 'link', symlinkTo: `../../../../../../../..${attacks.canary.dir}` }
    for (const WorkingDir of ['/link/new/dir', '/link/../link/new', '/link/inner/..']) {
      const { said } = await attempt({ image: await image([link], { WorkingDir }), script: 'pwd; ls' })
      assert.ok(!said.includes('passwd'))
      attacks.canary.assertUnharmed()
    }
  })

  it('B7: a /dev, /proc or /sys that is no directory is refused', async () => {
    for (const path of ['dev', 'proc', 'sys']) {
      for (const symlinkTo of [attacks.canary.dir, `../../../../../../../..${attacks.canary.dir}`, 'etc', path]) {
        refused(
          await attempt({ image: await image([{ path, symlinkTo }]) }),
          FAILED_PRECONDITION,
          /^"\/(dev|proc|sys)" of the image is not a directory/,
          `${path} ${symlinkTo}`,
        )
        attacks.canary.assertUnharmed()
      }
      refused(
        await attempt({ image: await image([{ path, content: 'file' }]) }),
        FAILED_PRECONDITION,
        /of the image is not a directory/,
      )
    }
  })

  it('B7: what an image has in /dev is not what the container gets', async () => {
    const entries: LayerEntry[] = [
      { path: 'dev/null', symlinkTo: '/proc/sysrq-trigger' },
      { path: 'dev/pts', symlinkTo: attacks.canary.dir },
      { path: 'dev/console', symlinkTo: join(attacks.canary.dir, 'new') },
    ]
    const { error, said } = await attempt({
      image: await image(entries),
      config: { tty: true },
      script: 'ls -l /dev/null',
    })
    assert.equal(error, undefined)
    assert.match(said, /^crw-rw-rw-/)
  })

  it('B13: removal empties nothing that is mounted, or linked, in a container’s directory', async () => {
    const sandbox = await podConfig(world.site, 'leaked')
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
    const containerId = await createContainer(
      world.cri,
      podSandboxId,
      sandbox,
      containerConfig('main', world.image, ['true']),
    )
    const dir = world.site.path('state', 'containers', containerId)
    mkdirSync(join(dir, 'leaked'))
    execFileSync('mount', ['--bind', attacks.canary.dir, join(dir, 'leaked')])
    symlinkSync(attacks.canary.dir, join(dir, 'linked'))
    await removePod(world.cri, podSandboxId)
    assert.equal(existsSync(dir), false)
  })
})
