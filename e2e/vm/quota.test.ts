/** Containers that write to a file system of their own which keeps project quotas: counters, limits, what is left. */

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { copyFile, mkdir, readdir, rm } from 'node:fs/promises'
import { after, before, describe, it } from 'node:test'
import { removePod, until } from '../pods.ts'
import { leftoversOf, type Node, run, startNodePod, useNode } from './node.ts'
import { systemctl, tool } from './systemd.ts'

const MIB = 2 ** 20
const LIMIT_MIB = 12

for (const filesystem of ['ext4', 'xfs']) {
  const skip = !existsSync(`/share/${filesystem}.img`) && `host lacks mkfs.${filesystem}`
  describe(`containers on ${filesystem} with project quotas`, { skip }, () => {
    const directory = `/srv/${filesystem}`
    const disk = `/var/tmp/${filesystem}.img`
    before(async () => {
      await mkdir(directory, { recursive: true })
      await copyFile(`/share/${filesystem}.img`, disk)
      await tool('mount', ['-o', 'loop,prjquota', disk, directory])
    })
    // Registered later, so the service starts after the disk is there, and ends before that goes.
    const node = useNode({
      storage: { containersRoot: directory, writableMiB: LIMIT_MIB, writableInodes: 300 },
    })
    after(async () => {
      await tool('umount', [directory])
      await rm(disk)
    })

    const written = async (): Promise<{ mountpoint: string | undefined; bytes: number; inodes: number }> => {
      const { containerFilesystems } = await node.cri.images.imageFsInfo({})
      const [found] = containerFilesystems
      return {
        mountpoint: found?.fsId?.mountpoint,
        bytes: Number(found?.usedBytes?.value),
        inodes: Number(found?.inodesUsed?.value),
      }
    }

    const attempt = async ({ containerId }: { containerId: string }, script: string): Promise<string> => {
      const { stdout, stderr } = await node.cri.runtime.execSync({
        containerId,
        cmd: ['sh', '-c', script],
        timeout: 120n,
      })
      return Buffer.concat([stdout, stderr]).toString()
    }

    it('are counted at once, kept within their limits each, and leave nothing', async () => {
      const pods = [await start(node, `${filesystem}-a`), await start(node, `${filesystem}-b`)] as const
      const [first, second] = pods
      const idle = await written()
      assert.equal(idle.mountpoint, directory)
      assert.ok(idle.bytes > 0 && idle.inodes > 0)

      const { stdout } = await tool('df', ['--output=size', '-B1', directory])
      const size = Number(stdout.split('\n')[1])
      assert.match(
        await attempt(first, 'dd if=/dev/zero of=/big bs=1M count=40; ls -s /big'),
        /quota exceeded|No space left/i,
      )
      const full = await written()
      assert.ok(full.bytes - idle.bytes > (LIMIT_MIB - 2) * MIB, `${full.bytes - idle.bytes}`)
      assert.ok(full.bytes - idle.bytes < (LIMIT_MIB + 2) * MIB, `${full.bytes - idle.bytes}`)
      // What it may have is also what it sees of the disk.
      const seen = Number((await run(node, first, 'df', '-k', '/')).split('\n')[1]?.split(/\s+/)[1]) * 1024
      assert.ok(seen < size / 2, `${seen} of ${size}`)

      assert.equal(await attempt(second, 'dd if=/dev/zero of=/fits bs=1M count=6 2>/dev/null && echo fits'), 'fits\n')
      const many = 'i=0; while touch /f$i && [ $i -lt 400 ]; do i=$((i + 1)); done; echo made $i'
      const made = await attempt(second, many)
      assert.match(made, /quota exceeded|No space left/i)
      assert.match(made, /made 2\d\d/)
      assert.ok((await written()).inodes - full.inodes > 200)

      for (const { sandboxId, slice } of pods) {
        await removePod(node.cri, sandboxId)
        await systemctl('stop', slice)
      }
      assert.deepEqual(await leftoversOf(node), [])
      assert.deepEqual(await readdir(`${directory}/rootfs`), [])
      await until('the files are gone', 60_000, async () =>
        (await readdir(`${directory}/trash`)).length === 0 ? true : undefined,
      )
      assert.equal((await written()).bytes, 0)
    })
  })
}

const start = (node: Node, name: string) => startNodePod(node, name, ['sleep', '1000'])
