/** Values that are too large, too many, or no such thing; names that are paths (A10, A12, A14, A16, A20, B10, B14). Rules: `attack.ts`. */

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { ContainerConfig, DeepPartial } from '#proto/generated/api.ts'
import { failsWith } from '../cri-client.ts'
import { containerConfig, createContainer, podConfig, removePod } from '../pods.ts'
import { INVALID_ARGUMENT, NOT_FOUND, refused, useAttacks } from './attack.ts'

describe('hostile values:', () => {
  const attacks = useAttacks()
  const { attempt, image, pod, specOf, world } = attacks

  it('A10: sets of processors are never expanded', async () => {
    for (const cpusetCpus of ['0-4294967295', `0${',1'.repeat(1_000_000)}`, '-1', '0-', '0\n', '1-0', '0,,1', 'all']) {
      const began = performance.now()
      refused(
        await attempt({ config: { linux: { resources: { cpusetCpus } } } }),
        INVALID_ARGUMENT,
        /^cpuset_cpus (has the part|is longer)/,
        cpusetCpus.slice(0, 20),
      )
      assert.ok(performance.now() - began < 5000)
    }
  })

  it('A12: containers made at once from one image do not see each other’s environment', async () => {
    const sandbox = await podConfig(world.site, 'aliasing')
    const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
    const made = await Promise.all(
      Array.from({ length: 30 }, async (_, index) => {
        const envs = [{ key: `ONLY_${index}`, value: Buffer.from(`secret-${index}`) }]
        const id = await createContainer(
          world.cri,
          podSandboxId,
          sandbox,
          containerConfig(`c${index}`, world.image, ['true'], { envs }),
        )
        return { id, index }
      }),
    )
    for (const { id, index } of made) {
      const { env } = (await specOf(id)).process
      assert.deepEqual(
        env.filter((entry) => entry.startsWith('ONLY_')),
        [`ONLY_${index}=secret-${index}`],
      )
    }
    await removePod(world.cri, podSandboxId)
  })

  it('A14: values that are too long or too many are refused', async () => {
    const many = (count: number) => Array.from({ length: count }, (_, index) => index)
    const attacks: Record<string, DeepPartial<ContainerConfig>> = {
      path: { mounts: [{ containerPath: `/${'x'.repeat(5000)}`, hostPath: '/etc' }] },
      source: { mounts: [{ containerPath: '/x', hostPath: `/${'x'.repeat(5000)}` }] },
      mounts: { mounts: many(10_000).map((index) => ({ containerPath: `/m${index}`, hostPath: '/etc' })) },
      env: { envs: many(100_000).map((index) => ({ key: `K${index}`, value: Buffer.from('valuevalue') })) },
      args: { args: ['x'.repeat(2 << 20)] },
      workingDir: { workingDir: `/${'x'.repeat(5000)}` },
    }
    for (const [what, config] of Object.entries(attacks))
      refused(await attempt({ config }), INVALID_ARGUMENT, /longer than|entries|more than/, what)
  })

  it('A16: names and ids that are paths find and make nothing', async () => {
    const { runtime } = world.cri
    const ids = [
      '../../etc',
      '/etc/passwd',
      '\0',
      'a\nb',
      '-rf',
      '.',
      '__proto__',
      'constructor',
      'x'.repeat(4096),
      'A'.repeat(64),
    ]
    for (const id of ids) {
      await assert.rejects(runtime.containerStatus({ containerId: id }), failsWith(NOT_FOUND), id)
      await assert.rejects(runtime.podSandboxStatus({ podSandboxId: id }), failsWith(NOT_FOUND), id)
      await runtime.removeContainer({ containerId: id })
    }
    const config = await podConfig(world.site, 'names')
    for (const runtimeHandler of ['../runc', '/usr/sbin/runc', '__proto__', 'constructor', '-v', 'runc\0']) {
      await assert.rejects(
        runtime.runPodSandbox({ config, runtimeHandler }),
        failsWith(INVALID_ARGUMENT),
        runtimeHandler,
      )
    }
    for (const cgroupParent of ['../../..', '/a/../../b', 'x.slice', '/a\nb', 'a:b:c']) {
      refused(
        await pod({ linux: { cgroupParent, securityContext: { namespaceOptions: { pid: 1 } } } }),
        INVALID_ARGUMENT,
        /^cgroup_parent /,
        cgroupParent,
      )
    }
    for (const hostname of ['../x', 'a b', 'a\nb', '$(id)', 'x'.repeat(65)])
      refused(await pod({ hostname }), INVALID_ARGUMENT, /^config.hostname /, hostname)
    for (const logPath of ['../x', '/etc/x', 'a/../../b', 'a\0', 'a/', './a']) {
      refused(await attempt({ config: { logPath } }), INVALID_ARGUMENT, /^log_path /, logPath)
    }
    refused(await pod({ logDirectory: 'relative' }), INVALID_ARGUMENT, /^config.log_directory /)
  })

  it('A20: odd environment entries are refused or kept exactly', async () => {
    for (const key of ['', 'A=B', 'A\0']) {
      refused(
        await attempt({ config: { envs: [{ key, value: Buffer.from('x') }] } }),
        INVALID_ARGUMENT,
        /^envs has the key/,
        key,
      )
    }
    refused(
      await attempt({ config: { envs: [{ key: 'A', value: Buffer.from([65, 0, 66]) }] } }),
      INVALID_ARGUMENT,
      /the value holds a NUL byte/,
    )
    refused(
      await attempt({ config: { envs: [{ key: 'A', value: Buffer.from([255, 254]) }] } }),
      INVALID_ARGUMENT,
      /the value is not UTF-8/,
    )
    const value = ' =ä\n"\\$(x)\u{1f997} '
    const odd = await image([], { Env: ['FROM_IMAGE=image', 'PATH=/bin'] })
    const envs = [
      { key: 'ODD', value: Buffer.from(value) },
      { key: 'FROM_IMAGE', value: Buffer.from('request') },
    ]
    const { said } = await attempt({
      image: odd,
      config: { envs },
      script: 'printf %s "$ODD" | od -An -tx1 | tr -d " \\n"; echo; echo $FROM_IMAGE',
    })
    assert.equal(said, `${Buffer.from(value).toString('hex')}\nrequest`)
  })

  it('B10: pod names with paths in them are names', async () => {
    const metadata = { name: '../../canary', uid: '../../../canary', namespace: '..', attempt: 0 }
    const { error, spec } = await pod({ metadata })
    assert.equal(error, undefined)
    // Nowhere in what the runtime is told do they make a path.
    const paths = JSON.stringify({ ...spec, annotations: {} })
    assert.ok(!paths.includes('..'), paths)
  })

  it('B14: a local file as an image is never opened', async () => {
    for (const name of [
      attacks.canary.dir,
      join(attacks.canary.dir, 'passwd'),
      `file://${attacks.canary.dir}`,
      `oci:${attacks.canary.dir}`,
      './canary',
    ]) {
      refused(await attempt({ image: name }), NOT_FOUND, /no image "/, name)
    }
  })
})
