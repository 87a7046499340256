/** A monitor that is killed while somebody connects to it. */
import assert from 'node:assert/strict'
import { closeSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { listenUnix } from '#linux/unix-socket.ts'
import { monitorFiles } from '#proto/conmon.ts'
import { isKind } from '#proto/errors.ts'
import { greetMonitor } from './monitor-socket.ts'

describe('greetMonitor()', () => {
  it('finds nobody there, whenever the listener goes', async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'cricket-greet-'))
    t.after(() => rmSync(dir, { recursive: true }))
    for (let turns = 0; turns < 200; turns++) {
      const listener = listenUnix(join(dir, monitorFiles.socket))
      const greeting = greetMonitor(dir, 'cookie', AbortSignal.timeout(10_000))
      const refused = assert.rejects(greeting, (error) => isKind(error, 'unavailable'))
      for (let count = 0; count < turns % 40; count++) await turn()
      closeSync(listener)
      await refused
      rmSync(join(dir, monitorFiles.socket))
    }
  })
})
