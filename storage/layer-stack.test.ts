/** Stacks of layers, unpacked each on its own and joined by overlayfs, look as if they had been applied one after the other. */
import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import fc from 'fast-check'
import { lgetXattr } from '#linux/xattr.ts'
import { archive, dir, type Forged, file, hardlink, pax, symlink } from './tar/testing/tarsmith.ts'
import { describeTree, temporaryStorage } from './testing/temporary-storage.ts'

/** One layer of the model: a consistent tree, and marks. */
interface ModelLayer {
  entries: Map<string, { type: 'dir' | 'file' | 'link'; mode: number; uid: number }>
  whiteouts: Set<string>
  opaque: Set<string>
  /** Hard links: a path, and which of the files that there are. Those that make sense are used. */
  links: [string, number][]
  order: number[]
}

type State = Map<string, string>

const parents = (path: string): string[] =>
  path.split('/').flatMap((_, i, parts) => (i === 0 ? [] : [parts.slice(0, i).join('/')]))

const below = (path: string, directory: string): boolean => directory === '' || path.startsWith(`${directory}/`)

const line = ({ type, mode, uid }: { type: string; mode: number; uid: number }): string => {
  const bits = mode.toString(8).padStart(4, '0')
  if (type === 'link') return `0777 ${uid}:0 -> t`
  return type === 'dir' ? `${bits} ${uid}:0 dir` : `${bits} ${uid}:0 "${mode}"`
}

/** What applying a layer to a directory would give, by the letter of the specification. */
const apply = (state: State, layer: ModelLayer): void => {
  const forget = (gone: (path: string) => boolean): void => {
    for (const path of state.keys()) if (gone(path)) state.delete(path)
  }
  const makeParents = (path: string): void => {
    for (const parent of parents(path)) if (!state.get(parent)?.endsWith('dir')) state.set(parent, '0755 0:0 dir')
  }
  for (const path of layer.whiteouts) forget((other) => other === path || below(other, path))
  for (const path of layer.opaque) forget((other) => below(other, path))
  for (const path of layer.whiteouts) makeParents(path)
  for (const path of layer.opaque) makeParents(path === '' ? '' : `${path}/x`)
  for (const [path, entry] of [...layer.entries].sort()) {
    makeParents(path)
    if (entry.type !== 'dir') forget((other) => below(other, path))
    state.set(path, line(entry))
  }
}

const path = fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/'))

const modelLayer: fc.Arbitrary<ModelLayer> = fc
  .record({
    entries: fc.array(
      fc.tuple(path, fc.constantFrom('dir', 'file', 'link'), fc.integer({ min: 0, max: 0o777 }), fc.nat(9)),
      { maxLength: 6 },
    ),
    whiteouts: fc.array(path, { maxLength: 2 }),
    opaque: fc.array(fc.oneof(path, fc.constant('')), { maxLength: 1 }),
    links: fc.array(fc.tuple(path, fc.nat(1000)), { maxLength: 6 }),
    order: fc.array(fc.nat(1000), { minLength: 12, maxLength: 12 }),
  })
  .map(({ entries, whiteouts, opaque, links, order }) => {
    const marked = [...whiteouts, ...opaque.map((directory) => `${directory}/x`)]
    const needsDirectory = new Set([...entries.map(([name]) => name), ...marked].flatMap(parents))
    return {
      entries: new Map(
        entries.map(([name, type, mode, uid]) => [name, { type: needsDirectory.has(name) ? 'dir' : type, mode, uid }]),
      ),
      whiteouts: new Set(whiteouts),
      opaque: new Set(opaque),
      links,
      order,
    }
  })

/** Those whose meaning does not depend on where they are among the other entries: to what the layers below show, and this one leaves alone. */
const linksThatCount = (before: State, { entries, whiteouts, opaque, links }: ModelLayer): [string, string][] => {
  const marked = [...whiteouts, ...[...opaque].map((directory) => (directory === '' ? 'x' : `${directory}/x`))]
  const own = [...entries.keys(), ...marked]
  const isDirectoryHere = (name: string): boolean => (entries.get(name)?.type ?? 'dir') === 'dir'
  const isFree = (name: string): boolean => !own.some((other) => other === name || below(other, name))
  const isHidden = (name: string): boolean =>
    [name, ...parents(name)].some((at) => whiteouts.has(at)) || ['', ...parents(name)].some((at) => opaque.has(at))
  const files = [...before].flatMap(([name, shown]) =>
    shown.endsWith('dir') || isHidden(name) || !isFree(name) ? [] : [name],
  )
  const chosen: [string, string][] = []
  for (const [path, nth] of links) {
    const target = files[nth % files.length]
    if (target === undefined || touches(path, target)) continue
    const isApart = chosen.flat().every((other) => !touches(other, path) && !touches(other, target))
    const fits = [...parents(path), ...parents(target)].every(isDirectoryHere)
    if (isApart && fits && isFree(path)) chosen.push([path, target])
  }
  return chosen
}

const touches = (a: string, b: string): boolean => a === b || below(a, b) || below(b, a)

/** After the other entries of the layer. */
const applyLinks = (state: State, before: State, links: [string, string][]): void => {
  for (const [path, target] of links) {
    for (const parent of parents(path)) if (!state.get(parent)?.endsWith('dir')) state.set(parent, '0755 0:0 dir')
    for (const other of state.keys()) if (below(other, path)) state.delete(other)
    state.set(path, before.get(target) ?? '')
  }
}

const partsOf = ({ entries, whiteouts, opaque, order }: ModelLayer, links: [string, string][]): Forged[] => {
  const parts: Forged[] = []
  for (const [name, { type, mode, uid }] of entries) {
    if (type === 'dir') parts.push(dir(name, { mode, uid }))
    else if (type === 'file') parts.push(file(name, String(mode), { mode, uid }))
    else parts.push(symlink(name, 't', { uid }))
  }
  for (const name of whiteouts) parts.push(file(name.replace(/([^/]+)$/, '.wh.$1')))
  for (const name of opaque) parts.push(file(name === '' ? '.wh..wh..opq' : `${name}/.wh..wh..opq`))
  for (const [path, target] of links) parts.push(hardlink(path, target))
  return parts
    .map((part, i) => ({ part, at: order[i] ?? 0 }))
    .sort((a, b) => a.at - b.at)
    .map(({ part }) => part)
}

for (const driver of ['overlay', 'copy'] as const) {
  const temporary = await temporaryStorage({ after }, { snapshots: { driver } })
  let count = 0

  /** Unpacks the layers (bottom first), mounts them, and tells what is seen. */
  const seen = async (layers: (Forged | Buffer)[][]): Promise<{ lines: string[]; mountpoint: string }> => {
    const infos = await Promise.all(layers.map((parts) => temporary.unpack(archive(...parts))))
    const id = `c${++count}`
    const mountpoint = temporary.mountpoint(id)
    await temporary.storage.rootfs.create({ id, layers: infos.map(({ diffId }) => diffId), mountpoint })
    return { lines: describeTree(mountpoint), mountpoint }
  }

  const check = async (layers: (Forged | Buffer)[][], expected: string[]): Promise<void> =>
    assert.deepEqual((await seen(layers)).lines.slice(1), expected)

  describe(`${driver}: whiteouts (C16)`, () => {
    const lower = [dir('d', { mode: 0o700, uid: 5 }), file('d/f', 'old'), dir('d/sub'), file('d/sub/g', 'old')]

    it('hide a file, and a directory with all that is in it', () =>
      check([lower, [file('d/.wh.f'), file('d/.wh.sub')]], ['./d 0700 5:0 dir']))
    it('hide what is not there', () => check([[dir('d')], [file('d/.wh.nothing')]], ['./d 0755 0:0 dir']))
    it('are undone by a higher layer', () =>
      check([lower, [file('.wh.d')], [dir('d'), file('d/new', 'x')]], ['./d 0755 0:0 dir', './d/new 0644 0:0 "x"']))
    for (const parts of [
      [file('.wh.d'), dir('d', { mode: 0o711 }), file('d/new', 'x')],
      [dir('d', { mode: 0o711 }), file('d/new', 'x'), file('.wh.d')],
      [dir('d', { mode: 0o711 }), file('.wh.d'), file('d/new', 'x')],
      [file('d/new', 'x'), file('.wh.d'), dir('d', { mode: 0o711 })],
    ])
      it('replace a directory by a new one of the same layer, in any order', () =>
        check([lower, parts], ['./d 0711 0:0 dir', './d/new 0644 0:0 "x"']))
    it('do not make a new directory look like the old one', () =>
      check([lower, [file('.wh.d'), file('d/new', 'x')]], ['./d 0755 0:0 dir', './d/new 0644 0:0 "x"']))
    it('hide nothing of their own layer', () =>
      check(
        [lower, [file('d/f', 'new'), file('d/.wh.f'), file('d/.wh.sub')]],
        ['./d 0700 5:0 dir', './d/f 0644 0:0 "new"'],
      ))
    for (const parts of [
      [file('d/.wh..wh..opq'), file('d/new', 'x')],
      [file('d/new', 'x'), file('d/.wh..wh..opq')],
    ])
      it('of everything keep the directory, in any order', () =>
        check([lower, parts], ['./d 0700 5:0 dir', './d/new 0644 0:0 "x"']))
    it('of everything in the root hide all lower layers', () =>
      check(
        [lower, [dir('a')], [file('.wh..wh..opq'), file('new', 'x')], [file('top')]],
        ['./new 0644 0:0 "x"', './top 0644 0:0 ""'],
      ))
    it('that AUFS left are ignored', () =>
      check(
        [lower.slice(0, 1), [file('.wh..wh.aufs'), dir('.wh..wh.plnk/'), file('.wh..wh.plnk/1.2', 'x')]],
        ['./d 0700 5:0 dir'],
      ))
    it('may be hard links to each other, as AUFS wrote them', () =>
      check([lower, [file('d/.wh.f'), { name: 'd/.wh.sub', type: '1', linkName: 'd/.wh.f' }]], ['./d 0700 5:0 dir']))
    it('hide a directory whose name comes back as a file, then as a directory', () =>
      check([lower, [file('d'), dir('d', { mode: 0o711 })]], ['./d 0711 0:0 dir']))
  })

  describe(`${driver}: directories without an entry`, () => {
    const lower = [dir('a', { mode: 0o2750, uid: 1, gid: 2, mtime: 99 }), dir('a/b', { mode: 0o1777, uid: 3 })]

    it('look as the layer below says', () =>
      check(
        [lower, [file('a/b/c/f', 'x')]],
        ['./a 2750 1:2 dir', './a/b 1777 3:0 dir', './a/b/c 0755 0:0 dir', './a/b/c/f 0644 0:0 "x"'],
      ))
    it('look as the nearest layer below says that says anything', () =>
      check(
        [lower, [dir('a', { mode: 0o700 })], [file('a/x')], [file('a/y')]],
        ['./a 0700 0:0 dir', './a/b 1777 3:0 dir', './a/x 0644 0:0 ""', './a/y 0644 0:0 ""'],
      ))
    it('are left alone when a higher layer describes them', () =>
      check([lower.slice(0, 1), [file('a/x')], [dir('a', { mode: 0o711 })]], ['./a 0711 0:0 dir', './a/x 0644 0:0 ""']))
    it('take nothing from a file or link below', () =>
      check(
        [
          [symlink('lib', 'usr/lib'), file('etc', 'file')],
          [file('lib/x'), file('etc/y')],
        ],
        ['./etc 0755 0:0 dir', './etc/y 0644 0:0 ""', './lib 0755 0:0 dir', './lib/x 0644 0:0 ""'],
      ))
    it('take nothing from what an opaque directory hides', () =>
      check(
        [lower, [dir('a'), file('a/.wh..wh..opq')], [file('a/b/f')]],
        ['./a 0755 0:0 dir', './a/b 0755 0:0 dir', './a/b/f 0644 0:0 ""'],
      ))
    it('do not come back after a whiteout', () => check([lower, [file('a/b/f')], [file('.wh.a')]], []))
    it('have the times and user attributes of the layer below', async () => {
      const noted = pax({ 'SCHILY.xattr.user.note': 'n' })
      const { mountpoint } = await seen([[noted, dir('a', { mtime: 99 })], [file('a/f')]])
      assert.equal(statSync(join(mountpoint, 'a')).mtimeMs, 99_000)
      assert.equal(lgetXattr(join(mountpoint, 'a'), 'user.note')?.toString(), 'n')
    })
    it('follow no link of a layer while looking', async () => {
      const { lines } = await seen([
        [symlink('a', '/etc'), symlink('b', '../../../../../../etc')],
        [file('a/x/f'), file('b/x/f')],
      ])
      assert.deepEqual(lines.slice(1), [
        './a 0755 0:0 dir',
        './a/x 0755 0:0 dir',
        './a/x/f 0644 0:0 ""',
        './b 0755 0:0 dir',
        './b/x 0755 0:0 dir',
        './b/x/f 0644 0:0 ""',
      ])
    })
  })

  describe(`${driver}: any stack of layers`, () => {
    it('looks as if its layers had been applied in order', async (t) => {
      let linked = 0
      await fc.assert(
        fc.asyncProperty(fc.array(modelLayer, { minLength: 1, maxLength: 5 }), async (layers) => {
          const state: State = new Map()
          const archives: Forged[][] = []
          for (const layer of layers) {
            const before = new Map(state)
            const links = linksThatCount(before, layer)
            apply(state, layer)
            applyLinks(state, before, links)
            archives.push(partsOf(layer, links))
            linked += links.length
          }
          const { lines } = await seen(archives)
          await temporary.storage.rootfs.remove(`c${count}`)
          assert.deepEqual(lines.slice(1).sort(), [...state].map(([name, rest]) => `./${name} ${rest}`).sort())
        }),
        { numRuns: 60 },
      )
      t.diagnostic(`${linked} hard links to lower layers`)
    })
  })
}
