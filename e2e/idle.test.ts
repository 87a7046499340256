/** A daemon that nobody calls: its event loop does not even wake up. */

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { useWorld } from './harness.ts'
import { containerConfig, podConfig, removePod, startPod } from './pods.ts'

/** Longer than any of the looks that a call brings about is waited for. */
const SILENT_SECONDS = 13
const DEADLINE_SECONDS = 120

describe('an idle daemon', () => {
  const world = useWorld()

  /** How often the thread of the event loop has gone to sleep: each is a wake-up. */
  const sleeps = async (): Promise<string | undefined> => {
    const { pid } = world.runtime
    return /^voluntary_ctxt_switches:\s+(\d+)/m.exec(await readFile(`/proc/${pid}/task/${pid}/status`, 'latin1'))?.[1]
  }

  it('sleeps while its pods run and nobody calls', { timeout: 300_000 }, async () => {
    const { cri, site, image } = world
    const config = await podConfig(site, 'idle')
    const { sandboxId } = await startPod(cri, config, containerConfig('main', image, ['sleep', '1000']))
    await cri.runtime.listContainerStats({})
    let [last, silentFor] = [await sleeps(), 0]
    for (let second = 0; silentFor < SILENT_SECONDS; second++) {
      assert.ok(second < DEADLINE_SECONDS, `it never slept for ${SILENT_SECONDS} s`)
      await sleep(1_000)
      const now = await sleeps()
      silentFor = now === last ? silentFor + 1 : 0
      last = now
    }
    await removePod(cri, sandboxId)
    await world.assertNothingLeft()
  })
})
