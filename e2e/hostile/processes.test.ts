/** Programs and descriptors of the node (B5, B6, B12), and its log files (B11). Rules: `attack.ts`. */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, readlinkSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { failsWith } from '../cri-client.ts'
import { processesOf } from '../leftovers.ts'
import { containerConfig, createContainer, podConfig, removePod } from '../pods.ts'
import { findBusybox } from '../site.ts'
import { FAILED_PRECONDITION, INVALID_ARGUMENT, refused, useAttacks } from './attack.ts'

describe('hostile processes:', () => {
  const attacks = useAttacks()
  const { attempt, image, world } = attacks

  it('B5: a working directory in the /proc of a process is refused; nothing else is open inside', async () => {
    for (const workingDir of ['/proc/self/fd/7', '/a/../proc/self/cwd', '/proc/1/root', '//proc/thread-self/fd/8']) {
      refused(
        await attempt({ config: { workingDir } }),
        INVALID_ARGUMENT,
        /^working_dir .* lies in the \/proc of a process/,
      )
      refused(
        await attempt({ image: await image([], { WorkingDir: workingDir }) }),
        FAILED_PRECONDITION,
        /^Working directory of the image .* lies in the \/proc/,
      )
    }
    const { said } = await attempt({ script: 'exec ls /proc/self/fd' })
    // The last is the directory that is being listed.
    assert.equal(said, '0\n1\n2\n3')
  })

  it('B6: a program that is /proc/self/exe does not reach the runtime', async () => {
    const reference = await image([{ path: 'evil', content: '#!/proc/self/exe\n', mode: 0o755 }], {
      Entrypoint: ['/evil'],
    })
    await attempt({ image: reference, config: { command: ['/evil'] } })
    await attempt({ script: 'for p in /proc/[0-9]*; do echo x > $p/exe; done; true' })
  })

  it('B11: a log file that is a link, a pipe or a directory is never written through', async () => {
    const traps: Record<string, (path: string) => void> = {
      link: (path) => symlinkSync(join(attacks.canary.dir, 'passwd'), path),
      dangling: (path) => symlinkSync(join(attacks.canary.dir, 'new'), path),
      fifo: (path) => execFileSync('mkfifo', [path]),
      directory: (path) => mkdirSync(path),
    }
    for (const [what, set] of Object.entries(traps)) {
      const sandbox = await podConfig(world.site, `log-${what}`)
      const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox })
      const config = containerConfig('main', world.image, ['echo', 'written'], { logPath: 'main/0.log' })
      mkdirSync(join(sandbox.logDirectory, 'main'))
      set(join(sandbox.logDirectory, 'main/0.log'))
      const refusal = failsWith(FAILED_PRECONDITION, /0\.log/)
      await assert.rejects(createContainer(world.cri, podSandboxId, sandbox, config), refusal, what)
      await removePod(world.cri, podSandboxId)
      attacks.canary.assertUnharmed()
    }
  })

  it('B12: nothing of the container runs, or is loaded, before and outside of it', async () => {
    // Every program and library that a host tool might meet after entering the rootfs leaves a mark and fails.
    const trap = '#!/trap/sh\necho "$0" >> /trapped\nexit 9\n'
    const programs = ['bin', 'usr/bin', 'sbin', 'usr/sbin'].flatMap((dir) =>
      ['sh', 'id', 'getent', 'tar', 'xz', 'gzip', 'zstd', 'mount', 'ldconfig', 'nsenter', 'node'].map((name) => ({
        path: `${dir}/${name}`,
        content: trap,
        mode: 0o755,
      })),
    )
    const reference = await image(
      [
        { path: 'trap/' },
        { path: 'trap/sh', content: readFileSync(findBusybox()), mode: 0o755 },
        ...programs,
        { path: 'etc/nsswitch.conf', content: 'passwd: evil\n' },
        { path: 'etc/ld.so.preload', content: '/lib/evil.so\n' },
        { path: 'etc/localtime', symlinkTo: join(attacks.canary.dir, 'passwd') },
        { path: 'lib/evil.so', content: 'no library' },
        { path: 'lib/x86_64-linux-gnu/libnss_evil.so.2', content: 'no library' },
      ],
      { User: 'app', WorkingDir: '/new/place', Volumes: { '/volume': {} } },
    )
    const before = await world.cri.runtime.version({})
    const { error, said } = await attempt({
      image: reference,
      config: { command: ['/trap/sh', '-c', 'test -e /trapped && cat /trapped; echo ran; sleep 2'] },
      while: async (containerId) => {
        const { stdout } = await world.cri.runtime.execSync({ containerId, cmd: ['/trap/sh', '-c', 'echo exec'] })
        assert.equal(stdout.toString(), 'exec\n')
        // The daemon and its monitor have their own root, and nothing of the container in memory.
        const processes = await processesOf(world.site, [])
        for (const { pid, name } of processes.filter(({ name }) => /cricket|conmon/.test(name))) {
          assert.equal(readlinkSync(`/proc/${pid}/root`), '/', name)
          assert.ok(!readFileSync(`/proc/${pid}/maps`, 'utf8').includes('/rootfs/'), name)
        }
      },
    })
    assert.equal(error, undefined)
    assert.equal(said, 'ran')
    assert.deepEqual(await world.cri.runtime.version({}), before)
    assert.equal(existsSync('/trapped'), false)
  })
})
