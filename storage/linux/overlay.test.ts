import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { isMountpoint, readMountInfo, unmount } from './mount.ts'
import {
  MAX_LOWER_LAYERS,
  mountOverlay,
  mountOverlayByContext,
  mountOverlayByOptions,
  type OverlayMount,
} from './overlay.ts'
import { scratch } from './testing/scratch.ts'

/** Makes layer directories; each has a file of its own, and all have `same` with their number in it. */
const layers = (base: string, count: number, nameOf: (index: number) => string): string[] =>
  Array.from({ length: count }, (_, index) => {
    const path = join(base, nameOf(index))
    mkdirSync(path, { recursive: true })
    writeFileSync(join(path, `own-${index}`), '')
    writeFileSync(join(path, 'same'), String(index))
    return path
  })

const writable = (base: string): { upper: string; work: string; target: string } => {
  const all = { upper: join(base, 'upper'), work: join(base, 'work'), target: join(base, 'merged') }
  for (const path of Object.values(all)) mkdirSync(path, { recursive: true })
  return all
}

const openFds = (): number => readdirSync('/proc/self/fd').length

const ways: Record<string, (request: OverlayMount) => void> = {
  'the chosen way': mountOverlay,
  'filesystem context': mountOverlayByContext,
  'one page of options': mountOverlayByOptions,
}

for (const [name, mountBy] of Object.entries(ways)) {
  test(`${name}: the first layer is on top, writes go to upper`, (t) => {
    const base = scratch(t)
    const lower = layers(base, 3, (index) => `l${index}`)
    const { upper, work, target } = writable(base)
    mountBy({ lower, upper, work, target, options: ['index=off', 'nodev', 'nosuid'] })
    assert.equal(readFileSync(join(target, 'same'), 'utf8'), '0')
    writeFileSync(join(target, 'same'), 'new')
    assert.equal(readFileSync(join(upper, 'same'), 'utf8'), 'new')
    const info = readMountInfo().find(({ mountpoint }) => mountpoint === target)
    assert.ok(info?.options.includes('nodev') && info.options.includes('nosuid'))
    assert.equal(info?.fsType, 'overlay')
    assert.ok(unmount(target))
  })

  test(`${name}: 200 layers whose paths fill many pages`, (t) => {
    const base = scratch(t)
    const lower = layers(base, 200, (index) => `${index}-${'long'.repeat(40)}`)
    const { upper, work, target } = writable(base)
    mountBy({ lower, upper, work, target })
    for (const index of [0, 99, 199]) assert.ok(existsSync(join(target, `own-${index}`)))
    assert.equal(readFileSync(join(target, 'same'), 'utf8'), '0')
  })

  test(`${name}: as many layers as the kernel takes, and not one more`, (t) => {
    const base = scratch(t)
    const lower = layers(base, MAX_LOWER_LAYERS + 1, (index) => `${index}-${'long'.repeat(40)}`)
    const { upper, work, target } = writable(base)
    const before = { directory: process.cwd(), fds: openFds() }
    assert.throws(() => mountBy({ lower, upper, work, target }), { code: 'E2BIG', message: /501 layers.* 500/ })
    mountBy({ lower: lower.slice(1), upper, work, target })
    for (const index of [1, 250, 500]) assert.ok(existsSync(join(target, `own-${index}`)))
    assert.ok(unmount(target))
    assert.deepEqual({ directory: process.cwd(), fds: openFds() }, before)
  })

  test(`${name}: paths with the characters options are made of, and very long ones`, (t) => {
    const base = join(scratch(t), 'a:b,c=d\\e "f" ü', 'x'.repeat(250), 'y'.repeat(250))
    mkdirSync(base, { recursive: true })
    const lower = layers(base, 2, (index) => `l:${index},\\x`)
    const { upper, work, target } = writable(base)
    mountBy({ lower, upper, work, target })
    assert.equal(readFileSync(join(target, 'same'), 'utf8'), '0')
    writeFileSync(join(target, 'new'), '')
    assert.ok(existsSync(join(upper, 'new')))
    assert.ok(unmount(target))
  })

  test(`${name}: read-only without upper`, (t) => {
    const base = scratch(t)
    const lower = layers(base, 2, (index) => `l${index}`)
    const { target } = writable(base)
    mountBy({ lower, target })
    assert.throws(() => writeFileSync(join(target, 'x'), ''), { code: 'EROFS' })
  })

  test(`${name}: failures leave no mount and no descriptor`, (t) => {
    const base = scratch(t)
    const lower = layers(base, 2, (index) => `l${index}`)
    const { upper, work, target } = writable(base)
    const before = openFds()
    assert.throws(() => mountBy({ lower: [...lower, join(base, 'missing')], upper, work, target }), { code: 'ENOENT' })
    assert.throws(() => mountBy({ lower, upper, work, target, options: ['no-such-option'] }), { code: 'EINVAL' })
    assert.throws(() => mountBy({ lower, upper, work, target: join(base, 'missing') }), {
      code: 'ENOENT',
      path: join(base, 'missing'),
    })
    assert.throws(() => mountBy({ lower: [], upper, work, target }), TypeError)
    assert.throws(() => mountBy({ lower, upper, target }), TypeError)
    assert.equal(isMountpoint(target), false)
    assert.equal(openFds(), before)
  })
}
