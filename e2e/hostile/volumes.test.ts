/** Mounts and volumes that leave their place (A17, B2, B7, B8). Rules: `attack.ts`. */

import assert from 'node:assert/strict'
import { existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { LayerEntry } from '../oci-image.ts'
import { FAILED_PRECONDITION, INVALID_ARGUMENT, refused, useAttacks } from './attack.ts'
import { startTurning } from './turning-volume.ts'

describe('hostile volumes:', () => {
  const attacks = useAttacks()
  const { attempt, image, world } = attacks

  it('A17: mounts over /proc are refused', async () => {
    for (const containerPath of [
      '/proc',
      '/proc/self',
      '/proc/sys',
      '/dev/../proc',
      '//proc',
      '/proc/.',
      '/',
      '//',
      '/.',
      'relative',
    ]) {
      const mounts = [{ containerPath, hostPath: attacks.canary.dir }]
      refused(await attempt({ config: { mounts } }), INVALID_ARGUMENT, /^mounts\[0\].container_path /, containerPath)
    }
  })

  it('A17, B2: volumes where the runtime mounts, or that leave the image, are refused', async () => {
    const link: LayerEntry = { path: 'link', symlinkTo: '../../../../../../../../etc' }
    for (const path of [
      '/proc',
      '/proc/self',
      '//proc',
      '/proc/.',
      '/sys',
      '/dev/../proc',
      '/dev',
      '/',
      '.',
      '/../../../../etc',
      '/a/..',
    ]) {
      refused(
        await attempt({ image: await image([], { Volumes: { [path]: {} } }) }),
        FAILED_PRECONDITION,
        /^Image declares the volume /,
        path,
      )
    }
    const many = Object.fromEntries(Array.from({ length: 1000 }, (_, index) => [`/v${index}`, {}]))
    refused(await attempt({ image: await image([], { Volumes: many }) }), FAILED_PRECONDITION, /declares 1000 volumes/)
    const absolute: LayerEntry = { path: 'absolute', symlinkTo: attacks.canary.dir }
    // Where they lead to is looked for in the image, and is there for the one only.
    assert.equal((await attempt({ image: await image([link], { Volumes: { '/link/new': {} } }) })).error, undefined)
    refused(
      await attempt({ image: await image([absolute], { Volumes: { '/absolute/x': {} } }) }),
      FAILED_PRECONDITION,
      /^Cannot make the volume "\/absolute\/x" of the image/,
    )
    assert.equal(existsSync('/etc/new'), false)
  })

  it('B8: nothing is made on the node for a request that is wrong', async () => {
    const missing = world.site.path('missing', 'source')
    const mounts = [
      { containerPath: '/x', hostPath: missing },
      { containerPath: '/y', hostPath: '/srv', propagation: 99 as 0 },
    ]
    refused(await attempt({ config: { mounts } }), INVALID_ARGUMENT, /^mounts\[1\].propagation 99 is unknown/)
    assert.equal(existsSync(world.site.path('missing')), false)
  })

  it('B8: a source behind a link that is turned round in between stays what it was, or fails', async () => {
    const link = world.site.path('turning')
    const good = world.site.path('good')
    mkdirSync(good)
    writeFileSync(join(good, 'which'), 'good')
    symlinkSync(good, link)
    const flip = setInterval(() => {
      rmSync(link, { force: true })
      symlinkSync(readTarget() === good ? attacks.canary.dir : good, link)
    }, 1)
    let target = good
    const readTarget = () => {
      const was = target
      target = target === good ? attacks.canary.dir : good
      return was
    }
    for (let round = 0; round < 10; round++) {
      const mounts = [{ containerPath: '/x', hostPath: link, readonly: true }]
      const { said, error } = await attempt({ config: { mounts }, script: 'ls /x' })
      assert.ok(error !== undefined || said === 'which' || said === 'inner\npasswd', said)
    }
    clearInterval(flip)
    rmSync(link, { force: true })
    rmSync(good, { recursive: true })
  })

  it('B7: a volume that another container keeps turning round leads nowhere', async () => {
    const turning = await startTurning(world, attacks.canary)
    for (let round = 0; round < 10; round++) {
      await turning.tryMount()
      attacks.canary.assertUnharmed()
    }
    await turning.end()
  })
})
