/** Layers and root file systems over their whole life, with crashes, damage and faults in between. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { linux } from '#linux/linux.ts'
import { recordLinux } from '#linux/recording-linux.ts'
import { isKind } from '#proto/errors.ts'
import { silentLog } from '#proto/log.ts'
import { nameOf, recordIn } from './layout.ts'
import { openStorage } from './storage.ts'
import { archive, dir, file } from './tar/testing/tarsmith.ts'
import { diffIdOf, temporaryStorage } from './testing/temporary-storage.ts'

const base = archive(dir('./', { mode: 0o751, uid: 7 }), dir('etc'), file('etc/passwd', 'root'))
const app = archive(dir('app'), file('app/run', '#!'))

const namesIn = (...path: string[]): string[] => readdirSync(join(...path))

describe('openStorage()', () => {
  it('refuses a root that another process has, until that ends', async (t) => {
    const temporary = await temporaryStorage(t)
    const program = join(import.meta.dirname, 'testing/child.ts')
    const child = (): ReturnType<typeof spawn> => spawn(process.execPath, [program, temporary.root])
    const refused = child()
    const [line] = await once(refused.stdout ?? assert.fail(), 'data')
    assert.match(String(line), /^failed-precondition: .*in use/)
    assert.ok(String(line).includes(temporary.root))
    await temporary.storage.close()
    const holder = child()
    t.after(() => holder.kill('SIGKILL'))
    assert.match(String((await once(holder.stdout ?? assert.fail(), 'data'))[0]), /^open/)
    await assert.rejects(openStorage({ root: temporary.root, linux, log: silentLog }), (error) =>
      isKind(error, 'failed-precondition'),
    )
    holder.kill('SIGKILL')
    await once(holder, 'exit')
    temporary.storage = await openStorage({ root: temporary.root, linux, log: silentLog })
  })

  it('refuses a layout of a newer program and a damaged version, touching nothing', async (t) => {
    const temporary = await temporaryStorage(t)
    await temporary.unpack(base)
    await temporary.storage.close()
    for (const content of ['{"layout":2}', '', '{', '{"layout":"1"}']) {
      writeFileSync(join(temporary.root, 'version.json'), content)
      await assert.rejects(openStorage({ root: temporary.root, linux, log: silentLog }), (error) =>
        isKind(error, 'failed-precondition'),
      )
    }
    writeFileSync(join(temporary.root, 'version.json'), '{"layout":1}')
    await temporary.reopen()
    assert.equal(temporary.storage.layers.list().length, 1)
  })

  it('lets nobody but its owner in (CVE-2021-41103)', async (t) => {
    const { root } = await temporaryStorage(t)
    assert.equal(statSync(root).mode & 0o777, 0o700)
    for (const name of namesIn(root)) assert.equal(statSync(join(root, name)).mode & 0o077, 0, name)
  })

  it('sweeps what a killed process was making and removing', async (t) => {
    const temporary = await temporaryStorage(t)
    await temporary.storage.close()
    for (const place of ['temp', 'trash']) {
      mkdirSync(join(temporary.root, place, 'half/diff/a/b'), { recursive: true })
      writeFileSync(join(temporary.root, place, 'half/diff/a/b/f'), 'x')
    }
    await temporary.reopen()
    await temporary.storage.trashEmptied()
    assert.deepEqual([namesIn(temporary.root, 'temp'), namesIn(temporary.root, 'trash')], [[], []])
  })
})

describe('a storage', () => {
  it('goes on deleting what was being removed, also when nothing else goes', async (t) => {
    const temporary = await temporaryStorage(t)
    await temporary.storage.close()
    mkdirSync(join(temporary.root, 'trash/half/diff'), { recursive: true })
    const { swept } = temporary.storage.counters()
    await temporary.reopen()
    assert.equal(temporary.storage.counters().swept, swept + 1)
    await temporary.storage.trashEmptied()
    assert.deepEqual(namesIn(temporary.root, 'trash'), [])
  })
})

describe('a layer', () => {
  it('is there after a restart, with its numbers', async (t) => {
    const temporary = await temporaryStorage(t)
    const layer = await temporary.unpack(base)
    const usage = temporary.storage.usage()
    await temporary.reopen()
    assert.deepEqual(temporary.storage.layers.get(layer.diffId), layer)
    assert.deepEqual(temporary.storage.usage(), usage)
  })

  it('becomes visible only after everything is on disk (P2)', async (t) => {
    const recording = recordLinux()
    const temporary = await temporaryStorage(t, { linux: recording.linux })
    recording.failCall('syncfs', 1, 'EIO')
    await assert.rejects(temporary.unpack(base))
    assert.deepEqual(namesIn(temporary.root, 'layers'), [])
    await temporary.storage.trashEmptied()
    assert.deepEqual(namesIn(temporary.root, 'temp'), [])
    await temporary.unpack(base)
    assert.ok(recording.calls.filter(({ name }) => name === 'syncfs').length >= 2)
  })

  for (const [what, damage] of [
    ['is empty', (path: string) => truncateSync(path, 0)],
    ['is cut', (path: string) => truncateSync(path, 100)],
    ['is missing', (path: string) => rmSync(path)],
    ['is zeros', (path: string) => writeFileSync(path, Buffer.alloc(200))],
    [
      'says something else',
      (path: string) => writeFileSync(path, readFileSync(path, 'utf8').replace('"bytes":', '"bytes":1')),
    ],
    ['is JSON of another kind', (path: string) => writeFileSync(path, '{"sha256":"","record":[]}')],
    [
      'is that of another layer',
      (path: string) => {
        const [other = ''] = namesIn(path, '../..').filter((name) => name !== nameOf(diffIdOf(base)))
        cpSync(join(path, '../..', other, 'record.json'), path)
      },
    ],
    [
      'is a directory',
      (path: string) => {
        rmSync(path)
        mkdirSync(path)
      },
    ],
  ] as const)
    it(`whose record ${what} is quarantined alone and can be unpacked again (P4, P5)`, async (t) => {
      const temporary = await temporaryStorage(t)
      const damaged = await temporary.unpack(base)
      const whole = await temporary.unpack(app)
      damage(recordIn(join(temporary.root, 'layers', nameOf(damaged.diffId))))
      await temporary.reopen()
      assert.deepEqual(temporary.storage.layers.list(), [whole])
      assert.equal(namesIn(temporary.root, 'quarantine').length, 1)
      assert.deepEqual(await temporary.unpack(base), damaged)
    })

  it('is joined by a second caller even when the first gives up', async (t) => {
    const temporary = await temporaryStorage(t)
    const blob = await temporary.put(base)
    const abort = new AbortController()
    const diffId = diffIdOf(base)
    const first = temporary.storage.layers.unpack({ diffId, blob, signal: abort.signal })
    const second = temporary.storage.layers.unpack({ diffId, blob })
    abort.abort(new Error('deadline'))
    await assert.rejects(first, /deadline/)
    assert.equal((await second).diffId, diffId)
  })

  it('whose blob is missing says so', async (t) => {
    const { storage } = await temporaryStorage(t)
    const diffId = diffIdOf(base)
    await assert.rejects(storage.layers.unpack({ diffId, blob: diffId }), (error) => isKind(error, 'not-found'))
  })

  it('that is being unpacked when storage closes leaves nothing', async (t) => {
    const temporary = await temporaryStorage(t)
    const big = archive(...Array.from({ length: 3000 }, (_, i) => file(`f${i}`, 'x')))
    const blob = await temporary.put(big)
    const unpacking = assert.rejects(temporary.storage.layers.unpack({ diffId: diffIdOf(big), blob }))
    await temporary.reopen()
    await unpacking
    await temporary.storage.trashEmptied()
    assert.deepEqual(namesIn(temporary.root, 'temp'), [])
    assert.deepEqual(temporary.storage.layers.list(), [])
  })

  it('goes when nothing keeps it', async (t) => {
    const { root, storage, unpack, mountpoint } = await temporaryStorage(t)
    const [kept, used, loose] = [await unpack(base), await unpack(app), await unpack(archive(file('x')))]
    await storage.rootfs.create({ id: 'c', layers: [used.diffId], mountpoint: mountpoint('c') })
    const { layers } = await storage.collectGarbage({ keep: new Set([kept.diffId]) })
    assert.deepEqual(layers, [loose.diffId])
    await storage.trashEmptied()
    assert.deepEqual(namesIn(root, 'trash'), [])
    await storage.rootfs.remove('c')
    await storage.collectGarbage({ keep: new Set() })
    assert.deepEqual(storage.layers.usage(), { bytes: 0, inodes: 0 })
  })
})
