/** What an orderly end owes to the disk. */
import assert from 'node:assert/strict'
import { tmpdir } from 'node:os'
import { describe, it } from 'node:test'
import { linux } from '#linux/linux.ts'
import { recordLinux } from '#linux/recording-linux.ts'
import { type Log, silentLog } from '#proto/log.ts'
import { openStorage } from './storage.ts'
import { syncRoot } from './sync-root.ts'
import { temporaryStorage } from './testing/temporary-storage.ts'

const warnings = () => {
  const said: string[] = []
  const log: Log = { ...silentLog, warn: (what: string) => said.push(what) }
  return { log, said }
}

describe('syncRoot()', () => {
  it('is the last that a storage does before it gives its root away', async (t) => {
    const { root, storage } = await temporaryStorage(t)
    await storage.close()
    const recording = recordLinux()
    const again = await openStorage({ root, linux: recording.linux, log: silentLog })
    await again.close()
    const last = recording.calls.filter(({ name }) => name === 'syncfs').at(-1)
    assert.deepEqual(last?.args, [root])
  })

  it('gives up on a disk that does not answer, and says so', async () => {
    const { log, said } = warnings()
    const dead = { ...linux, syncfs: () => new Promise<void>(() => {}) }
    await syncRoot(tmpdir(), dead, log, 20)
    assert.deepEqual(said, ['The file system does not sync in time'])
  })

  it('says what failed', async () => {
    const { log, said } = warnings()
    await syncRoot('/no/such/place', linux, log)
    assert.deepEqual(said, ['Cannot sync the file system'])
  })
})
