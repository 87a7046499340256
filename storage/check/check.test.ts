/** Damage done on purpose is found, and repaired alone. */
import assert from 'node:assert/strict'
import {
  appendFileSync,
  chmodSync,
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { lremoveXattr, lsetXattr } from '#linux/xattr.ts'
import { manifestIn, nameOf, recordIn } from '../layout.ts'
import { archive, dir, file, pax, symlink } from '../tar/testing/tarsmith.ts'
import { diffIdOf, temporaryStorage } from '../testing/temporary-storage.ts'
import { decodeManifest, encodeManifest } from './manifest.ts'

/** cap_net_raw+ep */
const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex')
const lower = archive(
  dir('etc'),
  file('etc/passwd', 'root:x:0:0'),
  file('bin/sh', 'x'.repeat(3000)),
  symlink('link', 'bin/sh'),
  pax({ 'SCHILY.xattr.security.capability': capability, 'SCHILY.xattr.user.long': 'x'.repeat(3000) }),
  file('bin/ping', 'p'),
  file('big', 'y'.repeat(3 * 2 ** 20)),
)
const upper = archive(file('app/main', 'z'.repeat(500)))

const withLayers = async (t: TestContext) => {
  const temporary = await temporaryStorage(t)
  const damaged = await temporary.unpack(lower)
  const other = await temporary.unpack(upper)
  const stacks = [{ id: 'image', path: 'record', layers: [damaged.diffId, other.diffId] }]
  const check = () => temporary.storage.check(stacks)
  assert.deepEqual((await check()).findings, [], 'nothing is wrong yet')
  return { temporary, damaged, other, check, directory: join(temporary.root, 'layers', nameOf(damaged.diffId)) }
}

/** Changes a file, and makes its time and length what they were. */
const changeInSecret = (path: string): void => {
  const { atime, mtime } = lstatSync(path)
  const content = readFileSync(path)
  content[content.length - 1] = (content.at(-1) ?? 0) ^ 1
  writeFileSync(path, content)
  utimesSync(path, atime, mtime)
}

const damages: Record<string, { harm: (directory: string) => void; says: RegExp }> = {
  'a deleted file': { harm: (at) => unlinkSync(join(at, 'diff/etc/passwd')), says: /"etc\/passwd" is missing/ },
  'a changed file': { harm: (at) => changeInSecret(join(at, 'diff/bin/sh')), says: /"bin\/sh" has other content/ },
  'a changed big file': { harm: (at) => changeInSecret(join(at, 'diff/big')), says: /"big" has other content/ },
  'a longer file': { harm: (at) => appendFileSync(join(at, 'diff/bin/sh'), 'x'), says: /"bin\/sh" is "file .*3001/ },
  'an additional file': { harm: (at) => writeFileSync(join(at, 'diff/new'), ''), says: /"new" was not in the layer/ },
  'other permissions': { harm: (at) => chmodSync(join(at, 'diff/bin/sh'), 0o4755), says: /is "file 4755/ },
  'an attribute more': {
    harm: (at) => lsetXattr(join(at, 'diff/etc'), 'user.note', Buffer.from('new')),
    says: /"etc" has other extended attributes/,
  },
  'a lost capability': {
    harm: (at) => lremoveXattr(join(at, 'diff/bin/ping'), 'security.capability'),
    says: /"bin\/ping" has other extended attributes/,
  },
  'a long attribute with one other byte': {
    harm: (at) => lsetXattr(join(at, 'diff/bin/ping'), 'user.long', Buffer.alloc(3000, 'y')),
    says: /"bin\/ping" has other extended attributes/,
  },
  'another link': {
    harm: (at) => {
      unlinkSync(join(at, 'diff/link'))
      symlinkSync('elsewhere', join(at, 'diff/link'))
    },
    says: /"link" is "link 777 0:0 elsewhere"/,
  },
  'a truncated record': { harm: (at) => truncateSync(recordIn(at), 20), says: /^record is/ },
  'a missing record': { harm: (at) => unlinkSync(recordIn(at)), says: /has no record/ },
  'a missing tree': { harm: (at) => rmSync(join(at, 'diff'), { recursive: true }), says: /has no tree/ },
  'a truncated manifest': { harm: (at) => truncateSync(manifestIn(at), 40), says: /cannot be compared/ },
}

describe('checking a layer', () => {
  for (const [what, { harm, says }] of Object.entries(damages))
    it(`finds ${what}; repaired, that layer alone is fetched again`, async (t) => {
      const { temporary, damaged, other, check, directory } = await withLayers(t)
      harm(directory)
      const { findings } = await check()
      assert.deepEqual(
        findings.map(({ kind, id }) => [kind, id]),
        [['layer', damaged.diffId]],
      )
      assert.match(findings[0]?.why ?? '', says)
      assert.ok(existsSync(directory), 'looking changes nothing')
      await temporary.storage.repair(findings)
      assert.equal(temporary.storage.layers.has(damaged.diffId), false)
      assert.ok(temporary.storage.layers.has(other.diffId))
      assert.equal(readdirSync(join(temporary.root, 'quarantine')).length, 1)
      assert.equal((await temporary.unpack(lower)).diffId, damaged.diffId)
      assert.deepEqual((await check()).findings, [])
    })

  it('finds a directory that is gone altogether by the image that needs it', async (t) => {
    const { temporary, damaged, other, check, directory } = await withLayers(t)
    rmSync(directory, { recursive: true })
    const { findings } = await check()
    assert.deepEqual(
      findings.map(({ kind, id, why }) => [kind, id, why]),
      [['image', 'image', `stands on layer "${damaged.diffId}", which is not there`]],
    )
    await temporary.storage.repair(findings)
    assert.deepEqual(
      temporary.storage.layers.list().map(({ diffId }) => diffId),
      [other.diffId],
    )
  })

  it('leaves those alone who stand on it', async (t) => {
    const { temporary, damaged, check, directory } = await withLayers(t)
    const mountpoint = temporary.mountpoint('c')
    await temporary.storage.rootfs.create({ id: 'c', layers: [damaged.diffId], mountpoint })
    unlinkSync(join(directory, 'diff/etc/passwd'))
    await temporary.storage.repair((await check()).findings)
    assert.equal(readFileSync(join(mountpoint, 'bin/sh'), 'utf8').length, 3000)
  })
})

describe('checking a storage', () => {
  it('finds blobs, fix-ups, root file systems and strangers', async (t) => {
    const temporary = await temporaryStorage(t)
    const base = await temporary.unpack(archive(dir('a', { mode: 0o700 })))
    const top = await temporary.unpack(archive(file('a/f')))
    const layers = [base.diffId, top.diffId]
    await temporary.storage.rootfs.create({ id: 'c', layers, mountpoint: temporary.mountpoint('c') })
    const blob = await temporary.put(Buffer.from('a document'))
    const at = (...parts: string[]) => join(temporary.root, ...parts)
    const [fixUp = ''] = readdirSync(at('fix-ups'))
    appendFileSync(at('blobs', nameOf(blob)), '!')
    truncateSync(recordIn(at('fix-ups', fixUp)), 5)
    writeFileSync(recordIn(at('rootfs/c')), '{}')
    writeFileSync(at('layers/stranger'), '')
    const { findings } = await temporary.storage.check([])
    assert.deepEqual(findings.map(({ kind }) => kind).sort(), ['blob', 'fix-up', 'rootfs', 'stray'])
    await temporary.storage.repair(findings)
    assert.equal(temporary.storage.blobs.has(blob), false)
    assert.deepEqual(
      (await temporary.storage.check([])).findings.map(({ kind }) => kind),
      ['rootfs'],
      'a writable layer is never taken away',
    )
  })

  it('goes by a manifest that was written before attributes were noted', async (t) => {
    const { check, directory } = await withLayers(t)
    const entries = [...decodeManifest(readFileSync(manifestIn(directory))).values()]
    assert.ok(entries.some(({ path, xattrs = '' }) => path === 'bin/ping' && xattrs !== ''))
    writeFileSync(manifestIn(directory), encodeManifest(entries.map(({ xattrs: _, ...older }) => older)))
    lremoveXattr(join(directory, 'diff/bin/ping'), 'security.capability')
    assert.deepEqual((await check()).findings, [])
    unlinkSync(join(directory, 'diff/bin/ping'))
    assert.equal((await check()).findings.length, 1)
  })

  it('says of which layers it cannot look at the files', async (t) => {
    const temporary = await temporaryStorage(t)
    await temporary.unpack(upper)
    assert.equal((await temporary.storage.check([])).withoutManifest, 0)
    unlinkSync(manifestIn(join(temporary.root, 'layers', nameOf(diffIdOf(upper)))))
    assert.equal((await temporary.storage.check([])).withoutManifest, 1)
  })
})
