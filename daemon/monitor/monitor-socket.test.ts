/** A monitor that is killed, or says nothing, while somebody connects to it; somebody who gives up meanwhile. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { closeSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
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

  it('leaves no connection, whenever who asks gives up', async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'cricket-greet-'))
    t.after(() => rmSync(dir, { recursive: true }))
    const open = new Set<Socket>()
    // Says nothing, as a monitor that is stopped.
    const server = createServer((socket) => {
      open.add(socket)
      socket.on('error', () => {}).resume()
      socket.once('close', () => open.delete(socket))
    })
    server.listen(join(dir, monitorFiles.socket))
    await once(server, 'listening')
    t.after(() => server.close())
    for (let moment = 0; moment < 200; moment++) {
      const controller = new AbortController()
      const greeting = greetMonitor(dir, 'cookie', controller.signal)
      const refused = assert.rejects(greeting, /given up/)
      for (let turns = 0; turns < moment % 20; turns++) await turn()
      controller.abort(new Error('given up'))
      await refused
    }
    for (let waits = 0; open.size > 0 && waits < 100; waits++) await sleep(20)
    const left = open.size
    for (const socket of open) socket.destroy()
    assert.equal(left, 0)
  })
})
