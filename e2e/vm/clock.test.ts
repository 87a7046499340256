/** Row H13: the clock of the node is set forward and back while containers live. */

import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { containerStatus, readLog, removePod, until } from '../pods.ts'
import { leftoversOf, run, startNodePod, useNode } from './node.ts'
import { systemctl, tool } from './systemd.ts'

/** Counts on stdout until it is told to stop, then exits with 3. */
const COUNT = ['sh', '-c', "trap 'exit 3' TERM; n=0; while :; do n=$((n+1)); echo $n; sleep 0.2; done"]
const HOUR = 3600
const YEAR = 366 * 24 * HOUR
const CRI_TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{9}Z$/

describe('a clock that is set', () => {
  const node = useNode()
  const began = Date.now() - performance.now()
  const setClock = (seconds: number) => tool('date', ['-s', `@${Math.round(seconds)}`])
  const trueTime = () => (began + performance.now()) / 1000
  after(async () => {
    await setClock(trueTime())
  })

  const jumps: [string, () => number][] = [
    ['back an hour', () => trueTime() - HOUR],
    ['forward ten years', () => trueTime() + 10 * YEAR],
    ['back to 1970', () => 1_000_000],
  ]
  for (const [name, target] of jumps) {
    it(`${name} changes no life: commands, stopping, logs, and the order of times`, async () => {
      await setClock(trueTime())
      const pod = await startNodePod(node, 'clock', COUNT)
      await until('it counts', 20_000, async () => ((await readLog(pod.logPath)).length > 2 ? true : undefined))
      await setClock(target())
      assert.equal(await run(node, pod, 'cat', '/proc/1/comm'), 'sh')
      const before = performance.now()
      await node.cri.runtime.stopContainer({ containerId: pod.containerId, timeout: 60n })
      assert.ok(performance.now() - before < 50_000, 'it ended by its signal, not by the end of its grace')
      const { exitCode, createdAt, startedAt, finishedAt } = await containerStatus(node.cri, pod.containerId)
      assert.equal(exitCode, 3)
      assert.ok(createdAt <= startedAt && startedAt <= finishedAt, `${createdAt} ${startedAt} ${finishedAt}`)
      const log = await readLog(pod.logPath)
      assert.ok(log.every(({ time }) => CRI_TIME.test(time)))
      assert.deepEqual(
        log.map(({ content }) => content),
        log.map((_, index) => String(index + 1)),
      )
      await removePod(node.cri, pod.sandboxId)
      await systemctl('stop', pod.slice)
      assert.deepEqual(await leftoversOf(node), [])
    })
  }
})
